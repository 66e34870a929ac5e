//! What can go wrong in a store.

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
