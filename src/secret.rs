//! Values that cannot be printed, compared by accident or serialised, and that are wiped when dropped.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

/// A secret. `Debug` shows `[redacted]`; there is no `Display`, no `Serialize` and no `PartialEq`.
///
/// ```
/// use portcullis::secret::Secret;
///
/// let password = Secret::new(String::from("correct horse"));
/// assert_eq!(format!("{password:?}"), "[redacted]");
/// assert_eq!(password.expose(), "correct horse");
/// ```
#[derive(Clone)]
pub struct Secret<T: Zeroize>(Zeroizing<T>);

impl<T: Zeroize> Secret<T> {
    /// Takes `value` over; it is wiped when the secret is dropped.
    pub fn new(value: T) -> Self {
        Self(Zeroizing::new(value))
    }

    /// Takes over what would be wiped by itself, without a copy.
    #[cfg(feature = "password")]
    pub(crate) const fn wiped(value: Zeroizing<T>) -> Self {
        Self(value)
    }

    /// The secret itself. Named so that a reader of the calling code sees where it goes.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl From<&str> for Secret<String> {
    fn from(value: &str) -> Self {
        Self::new(value.to_owned())
    }
}
