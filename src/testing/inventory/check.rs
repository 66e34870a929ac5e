//! What an answer proves of an operation, and what it does not. Pure.

use std::{collections::BTreeSet, fmt};

use http::{HeaderMap, StatusCode, header::WWW_AUTHENTICATE};

use super::report::Finding;
use crate::rejection::Rejection;

/// What came back from a route.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Answer {
    /// A response.
    Reply {
        /// Its status.
        status: StatusCode,
        /// What it asks for (`WWW-Authenticate`).
        challenge: Asked,
        /// Why a layer refused the request, if one did.
        rejection: Option<Rejection>,
    },
    /// The handler was reached, and panicked.
    Panic,
    /// Nothing within ten seconds.
    Nothing,
}

/// What a challenge asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Asked {
    /// There is none.
    Nothing,
    /// A bearer token.
    Token,
    /// Something else, such as a client's own password.
    Other,
}

impl Asked {
    /// Told by the schemes of the challenges, of which a field may have several.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut asked = Self::Nothing;
        for field in headers.get_all(WWW_AUTHENTICATE) {
            if elements(field.as_bytes()).into_iter().any(is_bearer) {
                return Self::Token;
            }
            asked = Self::Other;
        }
        asked
    }
}

/// What stands between the commas of a list (RFC 9110 §5.6.1), of which those in quotes are none.
fn elements(field: &[u8]) -> Vec<&[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    let is_comma = |byte: &u8| {
        let ends = *byte == b',' && !quoted;
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        ends
    };
    field.split(is_comma).collect()
}

/// Whether a challenge of bearer tokens begins here, and not a parameter of one that goes on (RFC 9110 §11.6.1).
fn is_bearer(element: &[u8]) -> bool {
    let element = element.trim_ascii();
    let (scheme, rest) = element.split_at(element.iter().position(|byte| *byte == b' ').unwrap_or(element.len()));
    scheme.eq_ignore_ascii_case(b"Bearer") && !rest.trim_ascii().starts_with(b"=")
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reply { status, rejection: None, .. } => write!(f, "{status}"),
            Self::Reply { status, rejection: Some(rejection), .. } => write!(f, "{status}: {rejection}"),
            Self::Panic => f.write_str("a panic of the handler"),
            Self::Nothing => f.write_str("nothing within ten seconds"),
        }
    }
}

impl Answer {
    /// Its status; 500 of a panic, 504 where there is none.
    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::Reply { status, .. } => *status,
            Self::Panic => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Nothing => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    const fn rejection(&self) -> Option<Rejection> {
        match self {
            Self::Reply { rejection, .. } => *rejection,
            Self::Panic | Self::Nothing => None,
        }
    }

    /// Whether it refuses whoever asks: by its status, or because a layer says so.
    pub(super) fn refuses(&self) -> bool {
        matches!(self.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) || self.rejection().is_some()
    }

    /// Whether it refuses because of who asks, or would anybody.
    pub(super) fn turns_away(&self) -> bool {
        matches!(self.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) || in_any_case(self).is_err()
    }

    /// Whether there is no such method.
    pub(super) fn is_no_method(&self) -> bool {
        self.status() == StatusCode::METHOD_NOT_ALLOWED && self.rejection().is_none()
    }
}

/// What is wrong whoever asks: nothing came, or layers are put together wrongly.
fn in_any_case(answer: &Answer) -> Result<(), Finding> {
    match (answer, answer.rejection()) {
        (Answer::Nothing, _) => Err(Finding::NoAnswer),
        (_, Some(wrong @ (Rejection::LayerMissing(_) | Rejection::NoDecision | Rejection::OtherClaims))) => {
            Err(Finding::Misassembled(wrong))
        }
        _ => Ok(()),
    }
}

/// By what an operation is closed, which decides how it refuses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ways {
    /// Tokens alone.
    Tokens,
    /// Tokens, and something else, which may refuse with 403.
    Mixed,
    /// Nothing that is tried here, which may refuse with 403 or, as OAuth's endpoints do, with 400.
    Others,
}

impl Ways {
    /// Whether this status refuses, where something else than a token was asked for.
    fn refuse_with(self, status: StatusCode) -> bool {
        match self {
            Self::Tokens => false,
            Self::Mixed => status == StatusCode::FORBIDDEN,
            Self::Others => {
                matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            }
        }
    }
}

/// A closed operation, asked without a token.
pub(super) fn stranger(answer: &Answer, ways: Ways) -> Result<(), Finding> {
    in_any_case(answer)?;
    match answer {
        Answer::Reply { status: StatusCode::UNAUTHORIZED, challenge, .. }
            if *challenge == Asked::Token || ways != Ways::Tokens =>
        {
            Ok(())
        }
        Answer::Reply { status: StatusCode::UNAUTHORIZED, .. } => Err(Finding::NoChallenge(*answer)),
        Answer::Reply { status, .. } if ways.refuse_with(*status) => Ok(()),
        answer if answer.is_no_method() => Err(Finding::NotThere),
        answer if answer.refuses() => {
            Err(Finding::WrongRefusal { to: "nobody", due: StatusCode::UNAUTHORIZED, answer: *answer })
        }
        answer => Err(Finding::PassesWithoutToken(*answer)),
    }
}

/// A closed operation, asked with a token of all scopes whose signature is wrong.
pub(super) fn forged(answer: &Answer, ways: Ways) -> Result<(), Finding> {
    in_any_case(answer)?;
    match answer.status() {
        StatusCode::UNAUTHORIZED => Ok(()),
        status if ways.refuse_with(status) => Ok(()),
        _ if answer.refuses() => Err(Finding::WrongRefusal {
            to: "a token of a wrong signature",
            due: StatusCode::UNAUTHORIZED,
            answer: *answer,
        }),
        _ => Err(Finding::PassesForged(*answer)),
    }
}

/// An operation that needs `scopes`, or one of them for each way in, asked with all scopes that there are but those. With
/// `own_rule` the handler may answer 403 itself, so that only a layer's is one.
pub(super) fn lacking(scopes: &BTreeSet<String>, answer: &Answer, own_rule: bool) -> Result<(), Finding> {
    in_any_case(answer)?;
    match answer.status() {
        StatusCode::FORBIDDEN if own_rule && answer.rejection().is_none() => {
            Err(Finding::PassesWithout { scopes: scopes.iter().cloned().collect(), answer: *answer })
        }
        StatusCode::FORBIDDEN => Ok(()),
        // In FastAPI's style.
        StatusCode::UNAUTHORIZED if answer.rejection() == Some(Rejection::InsufficientScope) => Ok(()),
        _ if answer.refuses() => {
            Err(Finding::WrongRefusal { to: "a token without its scope", due: StatusCode::FORBIDDEN, answer: *answer })
        }
        _ => Err(Finding::PassesWithout { scopes: scopes.iter().cloned().collect(), answer: *answer }),
    }
}

/// Whether the handler was reached, and refuses by a rule of its own: a layer would say why.
pub(super) fn by_own_rule(answer: &Answer) -> bool {
    answer.status() == StatusCode::FORBIDDEN && answer.rejection().is_none()
}

/// A closed operation, asked with exactly the scopes that are enough.
pub(super) fn granted(scopes: &BTreeSet<String>, answer: &Answer) -> Result<(), Finding> {
    in_any_case(answer)?;
    if answer.is_no_method() {
        return Err(Finding::NotThere);
    }
    if answer.refuses() {
        return Err(Finding::RefusedWith { scopes: scopes.iter().cloned().collect(), answer: *answer });
    }
    Ok(())
}

/// An open operation, asked without a token. That it minds something else is its own affair.
pub(super) fn anybody(answer: &Answer) -> Result<(), Finding> {
    in_any_case(answer)?;
    match answer.status() {
        StatusCode::UNAUTHORIZED if matches!(answer, Answer::Reply { challenge: Asked::Other, .. }) => Ok(()),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Finding::ClosedThoughOpen(*answer)),
        _ if answer.is_no_method() => Err(Finding::NotThere),
        _ => Ok(()),
    }
}

/// The scopes to leave out so that no way in is left: one of each, in every combination, but at most `most`.
///
/// A way in without scopes is always open to who is signed in; there is nothing to leave out then.
pub(super) fn left_out(ways: &[&BTreeSet<String>], most: usize) -> Option<BTreeSet<BTreeSet<String>>> {
    let mut combinations = BTreeSet::from([BTreeSet::new()]);
    if ways.is_empty() || ways.iter().any(|scopes| scopes.is_empty()) {
        return Some(BTreeSet::new());
    }
    for scopes in ways {
        let with = |chosen: &BTreeSet<String>, scope: &String| chosen.iter().cloned().chain([scope.clone()]).collect();
        combinations =
            combinations.iter().flat_map(|chosen| scopes.iter().map(move |scope| with(chosen, scope))).collect();
        if combinations.len() > most {
            return None;
        }
    }
    Some(combinations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, token: bool, rejection: Option<Rejection>) -> Answer {
        let challenge = if token { Asked::Token } else { Asked::Nothing };
        Answer::Reply { status: StatusCode::from_u16(status).unwrap(), challenge, rejection }
    }

    #[test]
    fn what_an_answer_proves() {
        use Rejection::{InsufficientScope, LayerMissing, NoCredential, NoDecision, OtherClaims, StoreUnavailable};
        let none = BTreeSet::new();
        // Each answer, and whether it is as it must be: asked by nobody, with a forged token, with too little, with enough, and of
        // an open operation.
        for (answer, expected) in [
            (reply(401, true, Some(NoCredential)), [true, true, false, false, false]),
            (reply(401, true, None), [true, true, false, false, false]),
            (reply(401, false, None), [false, true, false, false, false]),
            (reply(401, true, Some(InsufficientScope)), [true, true, true, false, false]),
            (reply(403, true, Some(InsufficientScope)), [false, false, true, false, false]),
            (reply(403, false, None), [false, false, true, false, false]),
            (reply(200, false, None), [false, false, false, true, true]),
            (reply(400, false, None), [false, false, false, true, true]),
            (reply(404, false, None), [false, false, false, true, true]),
            (reply(500, false, None), [false, false, false, true, true]),
            (reply(405, false, None), [false; 5]),
            (reply(503, false, Some(StoreUnavailable)), [false, false, false, false, true]),
            (reply(500, false, Some(LayerMissing("x"))), [false; 5]),
            (reply(500, false, Some(NoDecision)), [false; 5]),
            (reply(200, false, Some(OtherClaims)), [false; 5]),
            (Answer::Panic, [false, false, false, true, true]),
            (Answer::Nothing, [false; 5]),
        ] {
            let said = [
                stranger(&answer, Ways::Tokens),
                forged(&answer, Ways::Tokens),
                lacking(&none, &answer, false),
                granted(&none, &answer),
                anybody(&answer),
            ];
            assert_eq!(said.each_ref().map(Result::is_ok), expected, "{answer}: {said:?}");
        }
        let other = Answer::Reply { status: StatusCode::UNAUTHORIZED, challenge: Asked::Other, rejection: None };
        assert!(stranger(&other, Ways::Tokens).is_err() && anybody(&other).is_ok(), "a client's password is no token");
        for (status, mixed, others) in [
            (401, true, true),
            (403, true, true),
            (400, false, true),
            (404, false, false),
            (405, false, false),
            (422, false, false),
        ] {
            let answer = reply(status, false, None);
            assert_eq!(
                (stranger(&answer, Ways::Mixed).is_ok(), stranger(&answer, Ways::Others).is_ok()),
                (mixed, others)
            );
            assert_eq!((forged(&answer, Ways::Mixed).is_ok(), forged(&answer, Ways::Others).is_ok()), (mixed, others));
        }
        // Of a handler that refuses itself, its own 403 proves no scope.
        assert!(lacking(&none, &reply(403, false, None), true).is_err());
        assert!(lacking(&none, &reply(403, true, Some(InsufficientScope)), true).is_ok());
        assert!(by_own_rule(&reply(403, false, None)) && !by_own_rule(&reply(403, true, Some(InsufficientScope))));
    }

    #[test]
    fn challenges_of_one_field_are_told_apart() {
        for (fields, expected) in [
            (&[][..], Asked::Nothing),
            (&["Bearer"], Asked::Token),
            (&["bearer realm=\"a\""], Asked::Token),
            (&["Basic realm=\"a\", Bearer realm=\"b\""], Asked::Token),
            (&["Basic,Bearer"], Asked::Token),
            (&["Basic", "Bearer"], Asked::Token),
            (&["Basic realm=\"a, Bearer b\""], Asked::Other),
            (&["Basic realm=\"a\\\", Bearer b\""], Asked::Other),
            (&["Basic realm=\"a\", bearer = 1"], Asked::Other),
            (&["Bearers"], Asked::Other),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(WWW_AUTHENTICATE, field.parse().unwrap());
            }
            assert_eq!(Asked::of(&headers), expected, "{fields:?}");
        }
    }

    #[test]
    fn what_to_leave_out() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        for (ways, expected) in [
            (vec![], vec![]),
            (vec![set(&[])], vec![]),
            (vec![set(&["a"]), set(&[])], vec![]),
            (vec![set(&["a"])], vec![set(&["a"])]),
            (vec![set(&["a", "b"])], vec![set(&["a"]), set(&["b"])]),
            (vec![set(&["a"]), set(&["b"])], vec![set(&["a", "b"])]),
            (
                vec![set(&["a", "b"]), set(&["b", "c"])],
                vec![set(&["a", "b"]), set(&["a", "c"]), set(&["b"]), set(&["b", "c"])],
            ),
        ] {
            let ways: Vec<&BTreeSet<String>> = ways.iter().collect();
            assert_eq!(left_out(&ways, 64), Some(expected.into_iter().collect()), "{ways:?}");
        }
        let many: Vec<BTreeSet<String>> = (0..7).map(|n| set(&[&format!("a{n}"), &format!("b{n}")])).collect();
        assert_eq!(left_out(&many.iter().collect::<Vec<_>>(), 64), None);
    }
}
