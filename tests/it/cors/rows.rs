//! Requests and what their answers say.

/// policy | request | its fields | status, and what the answer says: `O` the request's own origin may read it, `*` every one may;
/// `C`redentials; `M`ethods, `H`eaders, `E`xposed headers, max-`A`ge, each as the policy says it; `P`rivate network. `v`: it
/// varies on the origin; `w`: on all that a preflight request says; `-`: on nothing. Nothing that is not named may be there.
pub const ROWS: &str = "
    plain | GET /200 |  | 200 v
    plain | GET /200 | o=https://app.example | 200 O v
    plain | HEAD /200 | o=https://app.example | 200 O v
    plain | POST /200 | o=https://app.example | 200 O v
    plain | DELETE /200 | o=https://app.example | 200 O v
    plain | OPTIONS /200 | o=https://app.example | 200 O v
    plain | OPTIONS /200 |  | 200 v
    plain | OPTIONS /200 | m=GET | 200 v
    plain | OPTIONS /200 | m=GET h=x-a | 200 v
    plain | GET /200 | o=https://app.example m=GET | 200 O v
    plain | POST /200 | o=https://app.example m=PUT h=x-a p=true | 200 O v
    plain | GET /200 | o=null | 200 v
    plain | GET /200 | o= | 200 v
    plain | GET /200 | o=* | 200 v
    plain | GET /200 | o=https://APP.example | 200 v
    plain | GET /200 | o=HTTPS://app.example | 200 v
    plain | GET /200 | o=http://app.example | 200 v
    plain | GET /200 | o=https://app.example:443 | 200 v
    plain | GET /200 | o=https://app.example:8443 | 200 v
    plain | GET /200 | o=https://app.example/ | 200 v
    plain | GET /200 | o=https://app.example. | 200 v
    plain | GET /200 | o=https://app.example.evil.example | 200 v
    plain | GET /200 | o=https://evil-app.example | 200 v
    plain | GET /200 | o=https://evil.app.example | 200 v
    plain | GET /200 | o=https://app.exampl | 200 v
    plain | GET /200 | o=https://app.examplee | 200 v
    plain | GET /200 | o=https://example | 200 v
    plain | GET /200 | o=https://app@app.example | 200 v
    plain | GET /200 | o=https://app.example_https://app.example | 200 v
    plain | GET /200 | o=https://app.example,https://app.example | 200 v
    plain | GET /200 | o=https://app.example o=https://app.example | 200 v
    plain | GET /200 | o=https://app.example o=https://evil.example | 200 v
    plain | GET /200 | o=https://evil.example o=https://app.example | 200 v
    plain | GET /400 | o=https://app.example | 400 O v
    plain | GET /401 | o=https://app.example | 401 O v
    plain | GET /403 | o=https://app.example | 403 O v
    plain | GET /404 | o=https://app.example | 404 O v
    plain | GET /429 | o=https://app.example | 429 O v
    plain | GET /500 | o=https://app.example | 500 O v
    plain | GET /503 | o=https://app.example | 503 O v
    plain | GET /308 | o=https://app.example | 308 O v
    plain | GET /304 | o=https://app.example | 304 O v
    plain | GET /401 | o=https://evil.example | 401 v
    plain | GET /401 |  | 401 v
    plain | GET /503 |  | 503 v
    plain | OPTIONS /401 | o=https://app.example | 401 O v
    plain | GET /own |  | 200 v
    plain | GET /own | o=https://app.example | 200 O v
    plain | GET /own | o=https://evil.example | 200 v
    plain | OPTIONS /own | o=https://evil.example | 200 v
    plain | OPTIONS /401 | o=https://app.example m=GET | 204 O M w
    plain | OPTIONS /503 | o=https://app.example m=HEAD | 204 O M w
    plain | OPTIONS /308 | o=https://app.example m=POST | 204 O M w
    plain | OPTIONS /own | o=https://app.example m=GET | 204 O M w
    plain | OPTIONS /200 | o=https://app.example m=PUT | 204 w
    plain | OPTIONS /200 | o=https://app.example m=DELETE | 204 w
    plain | OPTIONS /200 | o=https://app.example m=PATCH | 204 w
    plain | OPTIONS /200 | o=https://app.example m=OPTIONS | 204 w
    plain | OPTIONS /200 | o=https://app.example m=get | 204 w
    plain | OPTIONS /200 | o=https://app.example m=GET_ | 204 w
    plain | OPTIONS /200 | o=https://app.example m=GET,POST | 204 w
    plain | OPTIONS /200 | o=https://app.example m= | 204 w
    plain | OPTIONS /200 | o=https://app.example m=* | 204 w
    plain | OPTIONS /200 | o=https://app.example m=GET m=GET | 204 w
    plain | OPTIONS /200 | o=https://app.example m=GET h= | 204 O M w
    plain | OPTIONS /200 | o=https://app.example m=GET h=, | 204 O M w
    plain | OPTIONS /200 | o=https://app.example m=GET h=authorization | 204 w
    plain | OPTIONS /200 | o=https://app.example m=GET h=content-type | 204 w
    plain | OPTIONS /200 | o=https://app.example m=GET h=* | 204 w
    plain | OPTIONS /200 | o=https://app.example m=GET p=true | 204 w
    plain | OPTIONS /200 | o=https://evil.example m=GET | 204 w
    plain | OPTIONS /200 | o=null m=GET | 204 w
    plain | OPTIONS /200 | o= m=GET | 204 w
    plain | OPTIONS /200 | o=https://app.example o=https://app.example m=GET | 204 w
    plain | OPTIONS /200 | o=https://evil.example o=https://app.example m=GET | 204 w
    plain | OPTIONS /200 | o=https://app.example m=GET authorization=Bearer_x | 204 O M w
    plain | OPTIONS /200 | o=https://app.example m=GET cookie=a=b | 204 O M w
    api | GET /200 |  | 200 v
    api | GET /200 | o=https://app.example | 200 O C E v
    api | GET /401 | o=https://app.example | 401 O C E v
    api | GET /429 | o=https://app.example | 429 O C E v
    api | GET /503 | o=https://app.example | 503 O C E v
    api | GET /200 | o=https://admin.example:8443 | 200 O C E v
    api | GET /200 | o=https://admin.example | 200 v
    api | GET /200 | o=https://admin.example:844 | 200 v
    api | GET /200 | o=https://admin.example:84430 | 200 v
    api | GET /200 | o=http://localhost:3000 | 200 O C E v
    api | GET /200 | o=http://localhost | 200 v
    api | GET /200 | o=https://localhost:3000 | 200 v
    api | GET /200 | o=https://[2001:db8::1] | 200 O C E v
    api | GET /200 | o=https://[2001:db8::2] | 200 v
    api | GET /200 | o=https://shop.example | 200 v
    api | GET /200 | o=https://a.shop.example | 200 O C E v
    api | GET /200 | o=https://a.b-c.d.shop.example | 200 O C E v
    api | GET /200 | o=https://xn--bcher-kva.shop.example | 200 O C E v
    api | GET /200 | o=https://a.shop.example:8443 | 200 O C E v
    api | GET /200 | o=https://a.shop.example:8444 | 200 v
    api | GET /200 | o=https://a.shop.example: | 200 v
    api | GET /200 | o=http://a.shop.example | 200 v
    api | GET /200 | o=https://A.shop.example | 200 v
    api | GET /200 | o=https://.shop.example | 200 v
    api | GET /200 | o=https://a..shop.example | 200 v
    api | GET /200 | o=https://a.shop.example. | 200 v
    api | GET /200 | o=https://a.shop.example.evil.example | 200 v
    api | GET /200 | o=https://evilshop.example | 200 v
    api | GET /200 | o=https://evil.example#.shop.example | 200 v
    api | GET /200 | o=https://evil.example/.shop.example | 200 v
    api | GET /200 | o=https://evil.example?.shop.example | 200 v
    api | GET /200 | o=https://evil.example\\.shop.example | 200 v
    api | GET /200 | o=https://evil.example:80.shop.example | 200 v
    api | GET /200 | o=https://a@b.shop.example | 200 v
    api | GET /200 | o=https://evil.example%00.shop.example | 200 v
    api | GET /200 | o=https://evil.example,.shop.example | 200 v
    api | GET /200 | o=https://a_.shop.example | 200 v
    api | GET /200 | o=https://*.shop.example | 200 v
    api | GET /200 | o=https://[::1].shop.example | 200 v
    api | GET /200 | o=null | 200 v
    api | GET /vary | o=https://app.example | 200 O C E accept,_Origin
    api | GET /vary-cookie | o=https://app.example | 200 O C E cookie v
    api | GET /vary-all | o=https://app.example | 200 O C E *
    api | GET /vary-cookie |  | 200 cookie v
    api | GET /own | o=https://a.shop.example | 200 O C E v
    api | OPTIONS /200 | o=https://app.example m=PUT | 204 O C M H A w
    api | OPTIONS /200 | o=https://app.example m=DELETE h=authorization | 204 O C M H A w
    api | OPTIONS /200 | o=https://app.example m=GET h=authorization,content-type | 204 O C M H A w
    api | OPTIONS /200 | o=https://app.example m=GET h=authorization,_content-type | 204 O C M H A w
    api | OPTIONS /200 | o=https://app.example m=GET h=content-type_,authorization | 204 O C M H A w
    api | OPTIONS /200 | o=https://app.example m=GET h=Authorization,X-Request-ID | 204 O C M H A w
    api | OPTIONS /200 | o=https://app.example m=GET h=authorization h=x-request-id | 204 O C M H A w
    api | OPTIONS /200 | o=https://app.example m=GET h=authorization,,x-request-id, | 204 O C M H A w
    api | OPTIONS /200 | o=https://app.example m=GET h=,,,,,,,,,,,,,,,,authorization,content-type | 204 O C M H A w
    api | OPTIONS /200 | o=https://app.example m=GET h=,,,,,,,,,,,,,,,,,,authorization,content-type | 204 w
    api | OPTIONS /200 | o=https://app.example m=GET h=authorization,x-b | 204 w
    api | OPTIONS /200 | o=https://app.example m=GET h=x-b,authorization | 204 w
    api | OPTIONS /200 | o=https://app.example m=GET h=authorization h=x-b | 204 w
    api | OPTIONS /200 | o=https://app.example m=GET h=authorization;content-type | 204 w
    api | OPTIONS /200 | o=https://app.example m=GET h=authorization_content-type | 204 w
    api | OPTIONS /200 | o=https://app.example m=GET h=* | 204 w
    api | OPTIONS /200 | o=https://app.example m=GET h=authorizatio | 204 w
    api | OPTIONS /200 | o=https://app.example m=GET h=authorizationn | 204 w
    api | OPTIONS /200 | o=https://app.example m=GET h=cookie | 204 w
    api | OPTIONS /200 | o=https://app.example m=POST | 204 w
    api | OPTIONS /200 | o=https://app.example m=HEAD | 204 w
    api | OPTIONS /200 | o=https://app.example m=put | 204 w
    api | OPTIONS /200 | o=https://a.shop.example m=PUT h=content-type | 204 O C M H A w
    api | OPTIONS /200 | o=https://shop.example m=PUT | 204 w
    api | OPTIONS /200 | o=http://localhost:3000 m=PUT | 204 O C M H A w
    api | OPTIONS /200 | o=https://app.example m=PUT p=true | 204 w
    api | OPTIONS /200 | o=https://evil.example m=PUT h=authorization | 204 w
    api | OPTIONS /200 | o=null m=PUT | 204 w
    api | OPTIONS /401 | o=https://app.example | 401 O C E v
    http | GET /200 | o=http://plain.example | 200 O v
    http | GET /200 | o=https://plain.example | 200 v
    http | GET /200 | o=https://app.example | 200 O v
    http | OPTIONS /200 | o=http://plain.example m=PATCH h=x-a | 204 O M H A w
    http | OPTIONS /200 | o=http://plain.example m=GET | 204 w
    http | OPTIONS /200 | o=http://plain.example m=PATCH h=x-a,x-a | 204 O M H A w
    public | GET /200 |  | 200 * E -
    public | GET /401 |  | 401 * E -
    public | GET /200 | o=https://anybody.example | 200 * E -
    public | GET /200 | o=null | 200 * E -
    public | GET /200 | o=https://a.example o=https://b.example | 200 * E -
    public | GET /own | o=https://anybody.example | 200 * E -
    public | GET /vary-cookie | o=https://anybody.example | 200 * E cookie
    public | OPTIONS /200 |  | 200 * E -
    public | OPTIONS /200 | o=https://anybody.example m=GET | 204 * M w
    public | OPTIONS /200 | o=null m=GET | 204 * M w
    public | OPTIONS /200 | o=https://anybody.example m=POST | 204 w
    public | OPTIONS /200 | o=https://anybody.example m=GET h=x-a | 204 w
    public | OPTIONS /200 | o=https://a.example o=https://b.example m=GET | 204 w
    public | OPTIONS /200 | o=https://anybody.example m=GET p=true | 204 w
    wild | GET /200 | o=https://anybody.example | 200 * E -
    wild | OPTIONS /200 | o=https://anybody.example m=PURGE h=authorization,x-a | 204 * M H w
    wild | OPTIONS /200 | o=https://anybody.example m=GET | 204 * M H w
    wild | OPTIONS /200 | o=https://anybody.example m=GET m=PUT | 204 w
    star | GET /200 |  | 200 * -
    star | OPTIONS /200 | o=https://anybody.example m=POST | 204 * M w
    star | OPTIONS /200 | o=https://anybody.example m=PUT | 204 w
    lan | GET /200 | o=https://app.example | 200 O v
    lan | OPTIONS /200 | o=https://app.example m=GET | 204 O M w
    lan | OPTIONS /200 | o=https://app.example m=GET p=true | 204 O M P w
    lan | OPTIONS /200 | o=https://evil.example m=GET p=true | 204 w
    lan | OPTIONS /200 | o=https://app.example m=PUT p=true | 204 w
";
