//! Random bytes from the operating system, by way of aws-lc.

use base64_simd::URL_SAFE_NO_PAD;

/// The system gave no random bytes. Callers refuse: nothing is ever issued from weaker ones.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no random bytes to be had")]
#[non_exhaustive]
pub struct RandomUnavailable;

/// `N` random bytes.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], RandomUnavailable> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| RandomUnavailable)?;
    Ok(bytes)
}

/// `N` random bytes as unpadded base64url text.
pub(crate) fn text<const N: usize>() -> Result<String, RandomUnavailable> {
    Ok(URL_SAFE_NO_PAD.encode_to_string(bytes::<N>()?))
}

/// A random password of 24 characters (144 bits), for a demo user or a first administrator.
///
/// # Errors
///
/// [`RandomUnavailable`] if the system gives no random bytes.
pub fn password() -> Result<crate::secret::Secret<String>, RandomUnavailable> {
    text::<18>().map(crate::secret::Secret::new)
}
