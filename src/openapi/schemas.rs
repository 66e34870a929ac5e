//! Schemas of what the server's own endpoints take and answer. Pure.

use std::borrow::Cow;

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ArrayBuilder, Object, ObjectBuilder, RefOr, Schema, Type},
};

use super::operation::{DETAIL, PROBLEM, detail, problem};
use crate::store::UserPublic;

pub(super) const ERROR: &str = "portcullis.OAuthError";
pub(super) const MISSING: &str = "portcullis.Missing";
pub(super) const TOKEN: &str = "portcullis.Token";
pub(super) const INTROSPECTION: &str = "portcullis.Introspection";
pub(super) const REFUSAL: &str = "portcullis.AccountRefusal";
pub(super) const SESSIONS: &str = "portcullis.Sessions";
pub(super) const USER: &str = "UserPublic";
pub(super) const ACCEPTED: &str = "portcullis.Accepted";

/// A member of an object: its name, its type, and what it is.
pub(super) type Member = (&'static str, Type, &'static str);

/// An object of members, those first that are always there.
pub(super) fn object(description: &str, required: &[Member], optional: &[Member]) -> Object {
    let empty = ObjectBuilder::new().schema_type(Type::Object).description(Some(description));
    let all = required.iter().chain(optional).fold(empty, |object, (name, kind, about)| {
        object.property(*name, ObjectBuilder::new().schema_type(kind.clone()).description(Some(*about)))
    });
    required.iter().fold(all, |object, (name, ..)| object.required(*name)).build()
}

/// A list of these.
fn list(items: impl Into<RefOr<Schema>>) -> Schema {
    ArrayBuilder::new().items(items.into()).build().into()
}

fn text() -> Schema {
    ObjectBuilder::new().schema_type(Type::String).build().into()
}

/// With another member that has a schema of its own.
fn with(mut object: Object, name: &str, schema: impl Into<RefOr<Schema>>) -> Schema {
    object.properties.insert(name.to_owned(), schema.into());
    object.required.push(name.to_owned());
    object.into()
}

/// The schema of this name.
pub(super) fn named(name: &str) -> RefOr<Schema> {
    use Type::{Boolean, Integer, String};

    let error =
        [("error", String, "Code of the error (RFC 6749 §5.2)."), ("error_description", String, "The same in words.")];
    RefOr::T(match name {
        PROBLEM => return problem(),
        DETAIL => return detail(),
        MISSING => {
            let about = [("type", String, "`missing`."), ("msg", String, "`Field required`.")];
            let place = with(object("A field that is missing.", &about, &[]), "loc", list(text()));
            let field = match place {
                Schema::Object(mut field) => {
                    let nothing = ObjectBuilder::new().schema_type(Type::Null).description(Some("Nothing was there."));
                    field.properties.insert("input".to_owned(), nothing.into());
                    field.into()
                }
                other => other,
            };
            with(object("What a login lacks, as FastAPI says it.", &[], &[]), "detail", list(field))
        }
        USER => return UserPublic::schema(),
        TOKEN => {
            let always = [
                ("expires_in", Integer, "Seconds for which the access token is good."),
                ("scope", String, "What was granted, with spaces between."),
            ];
            let else_in_cookies = [
                ("access_token", String, "For `Authorization: Bearer`, unless it is in a cookie."),
                ("token_type", String, "`Bearer`."),
                ("refresh_token", String, "For the next pair, once. Only where there are sessions."),
                ("device_token", String, "To show at the next sign-in from this device."),
            ];
            object("Tokens (RFC 6749 §5.1).", &always, &else_in_cookies).into()
        }
        INTROSPECTION => {
            let member = |name, about| (name, String, about);
            let more = [
                member("iss", "Who issued it."),
                member("sub", "Whose it is."),
                member("client_id", "The client that it was issued to."),
                member("scope", "What it opens, with spaces between."),
                member("token_type", "`Bearer`."),
                ("exp", Integer, "When it ends, in seconds since 1970."),
                ("iat", Integer, "When it was issued."),
                ("auth_time", Integer, "When its user signed in."),
                member("jti", "Its own name."),
                member("sid", "Its session."),
            ];
            let mut object =
                object("What a token says (RFC 7662).", &[("active", Boolean, "Whether it is good.")], &more);
            object.properties.insert("aud".to_owned(), list(text()).into());
            object.into()
        }
        REFUSAL => {
            let reason = [("code", String, "Code of the reason."), ("message", String, "The same in words.")];
            let numbers = [
                ("least", Integer, "The least that there must be."),
                ("most", Integer, "The most that there may be."),
                ("given", Integer, "What there is."),
                ("needs", String, "What kind of character is missing."),
            ];
            let mut object = object("Why a name or a password cannot be.", &error, &[]);
            // Not where the current password is wrong: there is one reason, which the code names.
            let reasons = list(Schema::from(self::object("A reason.", &reason, &numbers)));
            object.properties.insert("reasons".to_owned(), reasons.into());
            object.into()
        }
        SESSIONS => {
            let members = [
                ("id", String, "Its name."),
                ("device", String, "What the device is called."),
                ("network", String, "The network that it began in."),
                ("client_id", String, "The client that it was begun with."),
                ("scope", String, "What it may do, with spaces between."),
                ("created_at", Integer, "When it began, in seconds since 1970."),
                ("last_used_at", Integer, "When it was last used."),
                ("expires_at", Integer, "When it ends if nobody uses it."),
                ("current", Boolean, "Whether it is the one that asks."),
            ];
            let session = Schema::from(object("A session.", &members, &[]));
            with(object("A user's sessions.", &[], &[]), "sessions", list(session))
        }
        ACCEPTED => {
            object("Nothing that would tell whether the name was taken.", &[("status", String, "`accepted`.")], &[])
                .into()
        }
        // Every other one is an error.
        _ => object("A refusal (RFC 6749 §5.2).", &error, &[]).into(),
    })
}

impl PartialSchema for UserPublic {
    fn schema() -> RefOr<Schema> {
        let members = [
            ("id", Type::String, "Identifier that never changes."),
            ("username", Type::String, "What they type to sign in."),
            ("disabled", Type::Boolean, "Whether they are kept from signing in."),
        ];
        RefOr::T(with(object("A user as others may see them.", &members, &[]), "scopes", list(text())))
    }
}

/// For `body = UserPublic` in `#[utoipa::path]`.
impl ToSchema for UserPublic {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed(USER)
    }
}
