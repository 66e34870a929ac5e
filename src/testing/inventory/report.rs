//! What an inventory has found.

use std::fmt;

use http::{Method, StatusCode};

use super::check::Answer;
use crate::rejection::Rejection;

/// Something that is not as the document says, or that the document does not say.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Finding {
    /// It is closed, says the document, and lets pass who has no token.
    #[error("is closed in the document, and passes without a token: {0}")]
    PassesWithoutToken(Answer),
    /// It lets pass a token whose signature is wrong.
    #[error("passes with a token of a wrong signature: {0}")]
    PassesForged(Answer),
    /// It lets pass a token that has all scopes of the document but these.
    #[error("passes without the scope `{}`: {answer}", scopes.join("` or `"))]
    PassesWithout {
        /// What was left out.
        scopes: Vec<String>,
        /// What came back.
        answer: Answer,
    },
    /// It refuses a token with exactly what the document asks for.
    #[error("is refused with exactly the scopes `{}`: {answer}", scopes.join(" "))]
    RefusedWith {
        /// What the token had.
        scopes: Vec<String>,
        /// What came back.
        answer: Answer,
    },
    /// It refuses, but in another way than it must, so that nothing is proved.
    #[error("answers {to} with {answer}, where {due} is due")]
    WrongRefusal {
        /// Whom.
        to: &'static str,
        /// What would prove it.
        due: StatusCode,
        /// What came back.
        answer: Answer,
    },
    /// A 401 that does not say how to sign in (RFC 9110 §11.6.1).
    #[error("answers without a challenge: {0}")]
    NoChallenge(Answer),
    /// It is open, says the document, and refuses.
    #[error("is open in the document, and refuses who has no token: {0}")]
    ClosedThoughOpen(Answer),
    /// It is open, and not on the list of those that may be.
    #[error("is open, and not on the list of what may be open")]
    OpenNotListed,
    /// It is on a list, and closed in the document, or there.
    #[error("is on the list of what may be open, and is not open")]
    ListedNotOpen,
    /// It is on a list, and nowhere else.
    #[error("is on a list, and is not there")]
    ListedNotThere,
    /// It is in the router, and not in the document.
    #[error("is in the router, and not in the document{}", if *open { "; it passes without a token" } else { "" })]
    Undocumented {
        /// Whether it lets pass who has no token.
        open: bool,
    },
    /// It is in the document, and not in the router.
    #[error("is in the document, and not in the router")]
    NotThere,
    /// A way in that no token opens, so that it was not tried.
    #[error("has a way in by `{0}`, which was not tried: say so with `untried`, and test it elsewhere")]
    SchemeUntried(String),
    /// Its `security` is not in the form of OpenAPI.
    #[error("has a `security` that cannot be read")]
    SecurityUnreadable,
    /// There are too many combinations of scopes to try.
    #[error("has more ways in than can be tried")]
    TooManyWays,
    /// What has no route is answered, and not with 404.
    #[error("is no route, and is answered: {0}")]
    FallbackOpen(Answer),
    /// A fallback of the program's own, of which nobody can tell what else it answers: it must be on a list.
    #[error("is a fallback of the router, and on no list: {0}")]
    FallbackNotListed(Answer),
    /// With values in place of its parameters, its path is that of another route, so that it was not asked.
    #[error("is not asked: `{target}` is answered by `{route}`; say other values with `path_value`")]
    LeadsElsewhere {
        /// The path with values.
        target: String,
        /// Which route of the router answers that.
        route: String,
    },
    /// The path has something that is not known here, so that it was not looked at.
    #[error("has `{0}` in the document, which cannot be read")]
    MemberUnread(String),
    /// It is on the list of what refuses by a rule of its own, and lets pass who has the scopes.
    #[error("is on the list of what refuses by its own rule, and does not")]
    ListedNotRefusing,
    /// Its layers do not fit each other.
    #[error("is put together wrongly: {0}")]
    Misassembled(Rejection),
    /// Nothing came.
    #[error("answers nothing within ten seconds")]
    NoAnswer,
    /// The router could not be asked for its paths, so what the document does not know was not found.
    #[error("paths of the router could not be read, so there may be some that the document does not know: {0}")]
    PathsUnreadable(&'static str),
    /// Nobody has said where tokens come from.
    #[error("needs tokens: say where they come from with `tokens` or `authority`")]
    NoTokens,
}

/// A gap, and where it is.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Gap {
    /// Method, if it is about one.
    pub method: Option<Method>,
    /// Path, as the document or the router writes it; empty if it is about none.
    pub path: String,
    /// What it is.
    pub finding: Finding,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = self.method.as_ref().map_or("", Method::as_str);
        let name = [method, &self.path].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        write!(f, "{}: {}", if name.is_empty() { "inventory" } else { &name }, self.finding)
    }
}

/// What became of an operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Verdict {
    /// Closed, as the document says.
    Closed,
    /// Open, as the document and the list say.
    Open,
    /// Closed, as the document says; who has the scopes is refused by a rule of the handler's own, as the list says.
    OwnRule,
    /// There is a gap, or several.
    Gap,
}

/// An operation that was looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Row {
    /// Its method.
    pub method: Method,
    /// Its path.
    pub path: String,
    /// What it requires, says the document.
    pub requirement: String,
    /// What became of it.
    pub verdict: Verdict,
}

/// What there is, who may call it, and what is not as it should be. `Display` is a table.
#[derive(Clone, Debug)]
#[must_use]
pub struct Inventory {
    pub(super) rows: Vec<Row>,
    pub(super) gaps: Vec<Gap>,
    pub(super) requests: u64,
}

impl Inventory {
    /// Every operation of the document, and every route beside it that was found.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// What is not as it should be.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// How many requests were made.
    pub const fn requests(&self) -> u64 {
        self.requests
    }

    /// Whether every operation is as the document says, and there is nothing that it does not know.
    pub fn is_complete(&self) -> bool {
        self.gaps.is_empty()
    }

    /// Panics if there is a gap, and names all of them.
    #[track_caller]
    pub fn assert_complete(&self) {
        let gaps: String = self.gaps.iter().flat_map(|gap| ["\n  ".to_owned(), gap.to_string()]).collect();
        assert!(self.is_complete(), "{} of {} operations have gaps:{gaps}", self.with_gaps(), self.rows.len());
    }

    fn with_gaps(&self) -> usize {
        self.rows.iter().filter(|row| row.verdict == Verdict::Gap).count()
    }
}

impl fmt::Display for Inventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |of: fn(&Row) -> usize| self.rows.iter().map(of).max().unwrap_or_default();
        let path = width(|row| row.path.chars().count());
        let requirement = width(|row| row.requirement.chars().count());
        for row in &self.rows {
            let verdict = match row.verdict {
                Verdict::Closed => "closed",
                Verdict::Open => "open",
                Verdict::OwnRule => "closed, and by its own rule",
                Verdict::Gap => "GAP",
            };
            writeln!(f, "{:7} {:path$} {:requirement$} {verdict}", row.method.as_str(), row.path, row.requirement)?;
        }
        for gap in &self.gaps {
            writeln!(f, "GAP {gap}")?;
        }
        write!(f, "{} operations, {} gaps, {} requests", self.rows.len(), self.gaps.len(), self.requests)
    }
}
