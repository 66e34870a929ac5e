//! What answers say of limits: `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response};

use super::LoginLimiter;
use crate::{
    audit::Who,
    rejection::{Answers, Rejection, Wire},
    throttle::Limit,
};

/// A refusal, and the policy that refuses, if one does; at the limiter's pace if it may come by the thousand.
pub(crate) async fn refuse(
    limiter: Option<&LoginLimiter>,
    answers: &Answers,
    (who, rejection): (Who, Rejection),
    wire: Wire,
) -> Response<Bytes> {
    let mut response = answers.refuse_caller(who, rejection, None, wire);
    if let Rejection::TooManyAttempts { limit, seconds } = rejection
        && let Some(policy) = limiter.and_then(|limiter| limiter.policy(limit))
    {
        tell(&mut response, limit, policy, 0, seconds);
    }
    if let (Some(limiter), Rejection::TooManyAttempts { .. } | Rejection::StoreUnavailable) = (limiter, rejection) {
        limiter.pace().await;
    }
    response
}

/// Adds both fields: so many are allowed in a period, so many are left, and in so many seconds there is one more. Structured
/// fields (RFC 9651): names of ours as strings, and whole numbers.
pub(super) fn tell<R>(response: &mut Response<R>, limit: Limit, (most, per): (u32, Duration), left: u32, seconds: u64) {
    let name = limit.name();
    let fields = [
        (HeaderName::from_static("ratelimit-policy"), format!("\"{name}\";q={most};w={}", per.as_secs())),
        (HeaderName::from_static("ratelimit"), format!("\"{name}\";r={left};t={seconds}")),
    ];
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().append(name, value);
        }
    }
}
