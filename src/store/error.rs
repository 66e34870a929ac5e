//! What can go wrong in a store.

use std::time::Duration;

use crate::audit;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The backend cannot answer now. `Display` has the backend's own words, for operators.
    #[error("store unavailable: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What was to be added is there already.
    #[error("already in the store")]
    Conflict,
    /// The store holds as much as it may.
    #[error("store is full")]
    Full,
}

impl StoreError {
    /// The backend cannot answer, because of `reason`.
    pub fn unavailable(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(reason.into())
    }
}

/// How long a store may take: whoever asked is told that it does not answer before they would give up.
const MOST_TIME: Duration = Duration::from_millis(1500);

/// Waits for a store, but not for ever. What has not been done by then is given up.
pub(crate) async fn within<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    in_time(MOST_TIME, call).await
}

/// How long a turn of a refresh token is waited for: longer than any store here takes to do it or to give it up. A client that
/// heard "try again" of a token that was turned after all would be taken for a thief.
#[cfg(feature = "password")]
const MOST_TIME_TO_TURN: Duration = Duration::from_millis(3500);

/// As [`within`], for a turn.
#[cfg(feature = "password")]
pub(crate) async fn turned<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    in_time(MOST_TIME_TO_TURN, call).await
}

async fn in_time<T>(most: Duration, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let asked = async {
        let answer = tokio::time::timeout(most, call).await;
        answer.unwrap_or_else(|_| Err(StoreError::unavailable("no answer in time")))
    };
    let reason = |error: &StoreError| match error {
        StoreError::Conflict => "conflict",
        StoreError::Unavailable(_) => "unavailable",
        StoreError::Full => "full",
    };
    audit::inside(audit::decision!("store"), asked, reason).await
}
