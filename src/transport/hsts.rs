//! The one `Strict-Transport-Security` field of an answer (RFC 6797).

mod layer;

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header::STRICT_TRANSPORT_SECURITY};

pub use self::layer::{Hsts, HstsLayer};
use crate::{
    client_ip::TrustedProxies,
    config::{ConfigError, ConfigErrors},
    gate::{Finish, sealed},
};

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const MOST: Duration = Duration::from_secs(10 * YEAR.as_secs());

/// Sets up an [`HstsLayer`].
///
/// ```
/// use std::time::Duration;
///
/// use portcullis::{client_ip::TrustedProxies, transport::HstsLayer};
///
/// let year = Duration::from_secs(31_536_000);
/// let layer = HstsLayer::builder(TrustedProxies::none()).max_age(year).preload().build()?;
/// # let hour = Duration::from_secs(3_600);
/// # assert!(HstsLayer::builder(TrustedProxies::none()).max_age(hour).build().is_err());
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct HstsBuilder {
    proxies: TrustedProxies,
    field: Field,
}

/// What the field says.
#[derive(Clone, Copy, Debug)]
struct Field {
    max_age: Duration,
    least: Duration,
    subdomains: bool,
    preload: bool,
}

impl HstsBuilder {
    const fn new(proxies: TrustedProxies) -> Self {
        let max_age = Duration::from_secs(2 * YEAR.as_secs());
        Self { proxies, field: Field { max_age, least: YEAR, subdomains: true, preload: false } }
    }

    /// For how long browsers keep to TLS, in whole seconds: two years unless set, one at least (ASVS 3.4.1), ten at most.
    pub const fn max_age(mut self, max_age: Duration) -> Self {
        (self.field.max_age, self.field.least) = (max_age, YEAR);
        self
    }

    /// As [`max_age`](Self::max_age), down to zero, with which browsers forget.
    ///
    /// For the first days of a new domain, or its last. A browser that stays away for longer begins in the clear again,
    /// and whoever is on the network then can keep it there.
    pub const fn danger_max_age(mut self, max_age: Duration) -> Self {
        (self.field.max_age, self.field.least) = (max_age, Duration::ZERO);
        self
    }

    /// Leaves the names below this one out. Whoever is on the network can be any of them then, and set cookies for this
    /// one.
    pub const fn without_subdomains(mut self) -> Self {
        self.field.subdomains = false;
        self
    }

    /// Consents to be put on the list that browsers bring along. It takes months to get off again.
    pub const fn preload(mut self) -> Self {
        self.field.preload = true;
        self
    }

    /// Builds the layer.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Duration`] if the age is out of bounds, [`ConfigError::HstsPreload`] if the list would not take it.
    pub fn build(self) -> Result<HstsLayer, ConfigErrors> {
        let field = self.field.parse()?;
        Ok(HstsLayer { proxies: self.proxies, field })
    }
}

impl Field {
    fn parse(self) -> Result<HeaderValue, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        errors.bound("HSTS max-age", self.max_age, self.least, MOST);
        // Of <https://hstspreload.org>.
        if self.preload && (!self.subdomains || self.max_age < YEAR) {
            errors.push(ConfigError::HstsPreload);
        }
        let subdomains = if self.subdomains { "; includeSubDomains" } else { "" };
        let preload = if self.preload { "; preload" } else { "" };
        let text = format!("max-age={}{subdomains}{preload}", self.max_age.as_secs());
        errors.finish(HeaderValue::try_from(text).ok())
    }
}

/// What an answer gets: the field over TLS, and none in the clear (RFC 6797 §7.2).
#[derive(Clone, Debug)]
pub struct HstsField(Option<HeaderValue>);

impl sealed::Sealed for HstsField {}

impl Finish for HstsField {
    fn finish(self, headers: &mut HeaderMap) {
        // In the place of all that are there: browsers read the first alone (RFC 6797 §8.1).
        match self.0 {
            Some(field) => headers.insert(STRICT_TRANSPORT_SECURITY, field),
            None => headers.remove(STRICT_TRANSPORT_SECURITY),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Settings = fn(HstsBuilder) -> HstsBuilder;

    #[test]
    fn req_140_req_142_settings() {
        const DAY: Duration = Duration::from_secs(86_400);
        let out_of_bounds = |given, least| {
            let setting = "HSTS max-age";
            ConfigError::Duration { setting, given, least, most: MOST }
        };
        let rows: &[(Settings, Result<&str, Vec<ConfigError>>)] = &[
            (|b| b, Ok("max-age=63072000; includeSubDomains")),
            (|b| b.without_subdomains(), Ok("max-age=63072000")),
            (|b| b.preload(), Ok("max-age=63072000; includeSubDomains; preload")),
            (|b| b.preload().preload(), Ok("max-age=63072000; includeSubDomains; preload")),
            (|b| b.max_age(YEAR), Ok("max-age=31536000; includeSubDomains")),
            (|b| b.max_age(YEAR).preload(), Ok("max-age=31536000; includeSubDomains; preload")),
            (|b| b.max_age(YEAR + Duration::from_millis(1)), Ok("max-age=31536000; includeSubDomains")),
            (|b| b.max_age(MOST), Ok("max-age=315360000; includeSubDomains")),
            (|b| b.danger_max_age(DAY), Ok("max-age=86400; includeSubDomains")),
            (|b| b.danger_max_age(Duration::ZERO).without_subdomains(), Ok("max-age=0")),
            (|b| b.danger_max_age(DAY).max_age(YEAR), Ok("max-age=31536000; includeSubDomains")),
            (|b| b.max_age(DAY), Err(vec![out_of_bounds(DAY, YEAR)])),
            (|b| b.max_age(Duration::ZERO), Err(vec![out_of_bounds(Duration::ZERO, YEAR)])),
            (|b| b.danger_max_age(DAY).max_age(DAY), Err(vec![out_of_bounds(DAY, YEAR)])),
            (|b| b.max_age(MOST + DAY), Err(vec![out_of_bounds(MOST + DAY, YEAR)])),
            (|b| b.max_age(Duration::MAX), Err(vec![out_of_bounds(Duration::MAX, YEAR)])),
            (|b| b.danger_max_age(Duration::MAX), Err(vec![out_of_bounds(Duration::MAX, Duration::ZERO)])),
            (|b| b.preload().without_subdomains(), Err(vec![ConfigError::HstsPreload])),
            (|b| b.preload().danger_max_age(DAY), Err(vec![ConfigError::HstsPreload])),
            (|b| b.preload().max_age(DAY), Err(vec![out_of_bounds(DAY, YEAR), ConfigError::HstsPreload])),
        ];
        for (number, (settings, expected)) in rows.iter().enumerate() {
            let built = settings(HstsBuilder::new(TrustedProxies::none())).build();
            let field = built.as_ref().map(|layer| layer.field.to_str().unwrap());
            let errors = |errors: &ConfigErrors| errors.iter().cloned().collect::<Vec<_>>();
            assert_eq!(field.map_err(errors), expected.clone(), "row {number}");
        }
        let default = HstsLayer::new(TrustedProxies::none()).field;
        assert_eq!(default, "max-age=63072000; includeSubDomains");
    }

    #[test]
    fn req_140_one_field_over_tls_and_none_in_the_clear() {
        let own = HeaderValue::from_static("max-age=1");
        for fields in 0..3 {
            let mut headers = HeaderMap::new();
            for _ in 0..fields {
                headers.append(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=0; preload"));
            }
            let mut plain = headers.clone();
            HstsField(None).finish(&mut plain);
            assert_eq!(plain.get(STRICT_TRANSPORT_SECURITY), None);
            HstsField(Some(own.clone())).finish(&mut headers);
            assert_eq!(headers.get_all(STRICT_TRANSPORT_SECURITY).iter().collect::<Vec<_>>(), [&own]);
        }
    }
}
