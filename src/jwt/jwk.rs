//! JSON Web Keys (RFC 7517) in and out, and their thumbprints (RFC 7638).

use aws_lc_rs::digest;
use base64_simd::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Members of a JWK that matter for signatures. Private members but `k` have no place to go, so that none can come out.
#[derive(Clone, Default, Deserialize, Serialize)]
pub(crate) struct Jwk {
    pub(crate) kty: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) crv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) y: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) e: Option<String>,
    /// The secret of an `oct` key: read, never written.
    #[serde(skip_serializing)]
    pub(crate) k: Option<Zeroizing<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kid: Option<String>,
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) alg: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key_ops: Option<Vec<String>>,
}

impl Jwk {
    /// Whether neither `use` nor `key_ops` speaks against verifying signatures (RFC 7517 §4.2, §4.3).
    pub(crate) fn may_verify(&self) -> bool {
        self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"))
    }

    /// SHA-256 thumbprint: the members that define the key, in lexicographic order, without white space (RFC 7638 §3).
    pub(crate) fn thumbprint(&self) -> String {
        let members = [
            ("crv", &self.crv),
            ("e", &self.e),
            ("kty", &Some(self.kty.clone())),
            ("n", &self.n),
            ("x", &self.x),
            ("y", &self.y),
        ];
        // Values are base64url or names of RFC 7518, so none needs an escape.
        let members: Vec<String> = members
            .into_iter()
            .filter_map(|(name, value)| value.as_ref().map(|value| format!("\"{name}\":\"{value}\"")))
            .collect();
        let text = format!("{{{}}}", members.join(","));
        URL_SAFE_NO_PAD.encode_to_string(digest::digest(&digest::SHA256, text.as_bytes()))
    }
}

/// A set of JWKs (RFC 7517 §5), as it is published.
#[derive(Serialize)]
pub(crate) struct JwkSet {
    pub(crate) keys: Vec<Jwk>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn req_091_thumbprint_of_rfc_7638_section_3_1() {
        let jwk: Jwk = serde_json::from_str(concat!(
            r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_B"#,
            r#"JECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaS"#,
            r#"qzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBni"#,
            r#"Iqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#
        ))
        .unwrap();
        assert_eq!(jwk.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn req_088_usage() {
        for (members, good) in [
            ("", true),
            (r#","use":"sig""#, true),
            (r#","key_ops":["verify"]"#, true),
            (r#","use":"sig","key_ops":["sign","verify"]"#, true),
            (r#","use":"enc""#, false),
            (r#","use":"""#, false),
            (r#","key_ops":[]"#, false),
            (r#","key_ops":["sign"]"#, false),
            (r#","use":"enc","key_ops":["verify"]"#, false),
        ] {
            let jwk: Jwk = serde_json::from_str(&format!(r#"{{"kty":"EC"{members}}}"#)).unwrap();
            assert_eq!(jwk.may_verify(), good, "{members}");
        }
    }
}
