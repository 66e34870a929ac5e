//! gRPC-Web by `tonic-web`, inside the layers: browsers are answered in their own framing, whether they may or not.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Host, Place, authority, serve};
use crate::support::{Reply, send};

/// A message of no bytes.
const MESSAGE: [u8; 5] = [0; 5];

/// Frames of an answer: flag and content.
fn frames(mut body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some(head) = body.first_chunk::<5>() {
        let end = 5 + u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        frames.push((head[0], body[5..end].to_vec()));
        body = &body[end..];
    }
    assert!(body.is_empty(), "{body:?}");
    frames
}

/// The body of an answer that comes in chunks.
fn unchunked(reply: &Reply) -> Vec<u8> {
    if reply.header("transfer-encoding") != Some("chunked") {
        return reply.body.clone();
    }
    let (mut rest, mut whole) = (reply.body.as_slice(), Vec::new());
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            return whole;
        }
        whole.extend_from_slice(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 4 + length..];
    }
}

async fn call(host: &Host, content_type: &str, token: Option<&str>) -> (Reply, Vec<(u8, Vec<u8>)>) {
    let text = content_type.contains("-text");
    let message = if text { STANDARD.encode(MESSAGE).into_bytes() } else { MESSAGE.to_vec() };
    let fields = [
        Some(format!("content-type: {content_type}")),
        Some(format!("accept: {content_type}")),
        token.map(|token| format!("authorization: Bearer {token}")),
    ];
    let fields: Vec<_> = fields.iter().flatten().map(String::as_bytes).collect();
    let reply = send(host.address, "POST /notes.v1.Notes/Add", &fields, &message).await;
    let body = unchunked(&reply);
    // Each part is encoded by itself.
    let body =
        if text { String::from_utf8(body).unwrap().split_inclusive('=').fold(Vec::new(), decoded) } else { body };
    let frames = frames(&body);
    (reply, frames)
}

/// `text`, which may go on after its padding.
fn decoded(mut whole: Vec<u8>, text: &str) -> Vec<u8> {
    if text != "=" {
        let unpadded = text.trim_end_matches('=');
        whole.extend(base64::engine::general_purpose::STANDARD_NO_PAD.decode(unpadded).unwrap());
    }
    whole
}

#[tokio::test]
async fn req_190_browsers_are_let_in_and_refused_in_their_own_framing() {
    let authority = authority();
    let (good, other) = (authority.token("notes"), authority.token("admin"));
    for place in [Place::Server, Place::Services] {
        let host = serve(&authority, place).await;
        for content_type in ["application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text+proto"] {
            let before = host.calls();
            let (reply, frames) = call(&host, content_type, Some(&good)).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            // A message, one note, and the trailers.
            assert_eq!(frames[0], (0, vec![8, 1]), "{content_type} {frames:?}");
            assert!(frames[1].0 == 0x80 && frames[1].1.starts_with(b"grpc-status:0"), "{content_type} {frames:?}");
            assert_eq!(host.calls() - before, 1);
            for (token, code) in [(None, 16), (Some("abc"), 16), (Some(other.as_str()), 7)] {
                let (reply, frames) = call(&host, content_type, token).await;
                assert_eq!((reply.status, frames.len()), (200, 1), "{content_type} {reply:?}");
                assert!(reply.header("content-type").unwrap().starts_with(content_type), "{reply:?}");
                let trailers = String::from_utf8(frames[0].1.clone()).unwrap();
                assert_eq!(frames[0].0, 0x80);
                assert!(trailers.starts_with(&format!("grpc-status:{code}\r\n")), "{content_type} {trailers:?}");
                assert!(reply.header("www-authenticate").unwrap().starts_with("Bearer realm=\"test\""));
            }
            assert_eq!(host.calls() - before, 1, "{content_type}");
        }
    }
}
