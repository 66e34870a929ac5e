//! The gate: a bearer token in, a proof out.

use std::{fmt, sync::Arc};

use http::Request;
use tower_layer::Layer;

use super::{
    verified::{CustomClaims, NoClaims, Verified},
    verifier::{Refused, Verifier},
};
use crate::{
    audit::Preflights,
    authz,
    bearer::{Credential, is_b64token, locate},
    clock::{Clock, SystemClock, UnixSeconds},
    gate::{Asks, Gated, Sight, sealed::Sealed},
    metrics::{self, Hot},
    rejection::{Answers, Rejection, Wire},
    stripe::Striped,
};

/// Layer that applies [`JwtVerify`]; the [module docs](crate::jwt) have an example.
#[must_use]
pub struct JwtVerifyLayer<C = NoClaims> {
    verifier: Verifier<C>,
    clock: Arc<dyn Clock>,
    answers: Arc<Striped<Answers>>,
    reads: Reads,
    preflights: Preflights,
}

/// Each caller takes a reference along; each core counts its own. Clones of the layer share them, because axum lays layers around
/// the handlers of a router without a state once for each connection.
fn striped(answers: &Answers) -> Arc<Striped<Answers>> {
    Arc::new(Striped::new(|| answers.copy()))
}

/// Where the token is.
#[derive(Clone, Copy, Debug)]
enum Reads {
    /// In the extensions, where [`BearerExtractLayer`](crate::bearer::BearerExtractLayer) has put it.
    Credential,
    /// In the header: the work of both layers in one, for half of what they cost.
    Header { optional: bool },
}

impl<C: CustomClaims> JwtVerifyLayer<C> {
    /// A layer that lets pass what `verifier` accepts.
    pub fn new(verifier: Verifier<C>) -> Self {
        let (clock, preflights) = (Arc::new(SystemClock), Preflights::default());
        Self { verifier, clock, answers: striped(&Answers::default()), reads: Reads::Credential, preflights }
    }

    /// Reads the header by itself, with no other layer outside it.
    pub(crate) fn reading_header(self, optional: bool) -> Self {
        Self { reads: Reads::Header { optional }, ..self }
    }

    /// Sets where the time is read: the system's clock unless set.
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Sets the realm of the challenges: `api` unless set.
    #[expect(clippy::needless_pass_by_value, reason = "as all layers take it")]
    pub fn answers(self, answers: Answers) -> Self {
        Self { answers: striped(&answers), ..self }
    }

    /// What its answers are like, for documents.
    #[cfg(feature = "openapi")]
    pub(crate) fn answer_style(&self) -> crate::rejection::AnswerStyle {
        self.answers.own().own_style()
    }
}

impl<C> Clone for JwtVerifyLayer<C> {
    fn clone(&self) -> Self {
        let (clock, answers) = (Arc::clone(&self.clock), Arc::clone(&self.answers));
        Self { verifier: self.verifier.clone(), clock, answers, reads: self.reads, preflights: self.preflights.clone() }
    }
}

impl<C> fmt::Debug for JwtVerifyLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtVerifyLayer").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

impl<S, C: CustomClaims> Layer<S> for JwtVerifyLayer<C> {
    type Service = JwtVerify<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated::new(inner, Arc::new(self.clone()))
    }
}

/// Middleware that verifies the bearer token; the [module docs](crate::jwt) have an example.
pub type JwtVerify<S, C = NoClaims> = Gated<S, JwtVerifyLayer<C>>;

impl<C: CustomClaims> JwtVerifyLayer<C> {
    /// Puts into the extensions what the credential proves.
    fn admit<B>(&self, request: &mut Request<B>, check: Check<C>) -> Result<(), Refused> {
        let now = self.clock.now();
        let verified = match self.token(request)? {
            None => None,
            Some(token) => {
                Some(check(&self.verifier, token, now).map_err(|refused| match self.reads {
                    // Looked at only now, because a token that is good has no other characters.
                    Reads::Header { .. } if !is_b64token(token) => Refused::from(Rejection::MalformedCredential),
                    _ => refused,
                })?)
            }
        };
        let extensions = request.extensions_mut();
        match verified {
            None => {
                if authz::enter_nobody(extensions, self.answers.own().clone()) {
                    metrics::count(Hot::Nobody, now);
                }
            }
            Some(verified) => {
                let caller = verified.into_principal().answered(self.answers.own().clone());
                if authz::enter(extensions, caller) {
                    metrics::count(Hot::Known, now);
                }
            }
        }
        Ok(())
    }

    /// The token of a request, or `None` where it may come without one.
    fn token<'r, B>(&self, request: &'r Request<B>) -> Result<Option<&'r [u8]>, Rejection> {
        match self.reads {
            Reads::Credential => match request.extensions().get::<Credential>() {
                None => Err(Rejection::LayerMissing("BearerExtractLayer")),
                Some(Credential::Absent) => Ok(None),
                Some(Credential::Bearer(token)) => Ok(Some(token.as_bytes())),
            },
            Reads::Header { optional } => {
                self.preflights.look(request.method(), request.headers());
                match locate(request.headers(), request.uri()) {
                    Ok((field, start)) => Ok(field.as_bytes().get(start..)),
                    Err(Rejection::NoCredential | Rejection::OtherScheme) if optional => Ok(None),
                    Err(rejection) => Err(rejection),
                }
            }
        }
    }

    #[cold]
    fn refuse<B>(&self, rejection: Rejection, request: &Request<B>) -> Sight<()> {
        Sight::Refuse(self.answers.own().refuse(rejection, None, Wire::of(request.headers())).into())
    }
}

impl<C> Sealed for JwtVerifyLayer<C> {}

impl<C: CustomClaims> Asks for JwtVerifyLayer<C> {
    type Answer = ();

    #[inline]
    fn look<B>(&self, request: &mut Request<B>) -> Sight<()> {
        match self.admit(request, Verifier::check) {
            Ok(()) => Sight::Pass,
            Err(Refused { retry: Some(fetched), .. }) => Sight::Ask(fetched),
            Err(Refused { retry: None, rejection }) => self.refuse(rejection, request),
        }
    }

    fn settle<B>(&self, request: &mut Request<B>, (): ()) -> Sight<()> {
        // Whatever the fetch brought is what there is.
        let last: Check<C> = |verifier, token, now| verifier.check_again(token, now).map_err(Refused::from);
        match self.admit(request, last) {
            Ok(()) => Sight::Pass,
            Err(Refused { rejection, .. }) => self.refuse(rejection, request),
        }
    }
}

/// The first check of a token, or the last.
type Check<C> = fn(&Verifier<C>, &[u8], UnixSeconds) -> Result<Verified<C>, Refused>;
