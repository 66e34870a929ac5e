"""The last chapter of FastAPI's security tutorial, with the settings that suit it best: a peer for `benches/load`.

What differs from the tutorial: the key is the one of the server beside it (`ALGORITHM`, `VERIFYING_KEY`, and
`SIGNING_KEY` for `/token`), it is parsed once, issuer and audience are checked as they are there, passwords cost what they
cost there, and `/token` is a plain function, so that Argon2 runs in the thread pool and holds nobody else up.
"""

import os
from datetime import datetime, timedelta, timezone
from typing import Annotated

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from fastapi import Depends, FastAPI, HTTPException, Security, status
from fastapi.security import OAuth2PasswordBearer, OAuth2PasswordRequestForm, SecurityScopes
from jwt.exceptions import InvalidTokenError
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from pydantic import BaseModel, ValidationError

ALGORITHM = os.environ["ALGORITHM"]
ISSUER = os.environ["ISSUER"]
AUDIENCE = os.environ["AUDIENCE"]
ACCESS_TOKEN_EXPIRE_MINUTES = 10
if ALGORITHM == "HS256":
    SIGNING_KEY = VERIFYING_KEY = os.environ["SIGNING_KEY"]
else:
    SIGNING_KEY = load_pem_private_key(os.environ["SIGNING_KEY"].encode(), None)
    VERIFYING_KEY = load_pem_public_key(os.environ["VERIFYING_KEY"].encode())

password_hash = PasswordHash((Argon2Hasher(time_cost=2, memory_cost=19 * 1024, parallelism=1),))
SUBJECT = "user:1MDU7CHDcZdaF_StCCAoog"
fake_users_db = {
    SUBJECT: {"username": "alice", "disabled": False, "hashed_password": password_hash.hash(os.environ["PASSWORD"])}
}


class Token(BaseModel):
    access_token: str
    token_type: str


class TokenData(BaseModel):
    username: str | None = None
    scopes: list[str] = []


class User(BaseModel):
    username: str
    disabled: bool | None = None


class UserInDB(User):
    hashed_password: str


class Report(BaseModel):
    visitors: int


oauth2_scheme = OAuth2PasswordBearer(
    tokenUrl="token", scopes={"me": "Who you are", "items": "What you have", "admin": "What others have"}
)
app = FastAPI()


def get_user(db, subject: str):
    if subject in db:
        return UserInDB(**db[subject])


def authenticate_user(db, username: str, password: str):
    subject = next((subject for subject, user in db.items() if user["username"] == username), None)
    if subject is None or not password_hash.verify(password, db[subject]["hashed_password"]):
        return None
    return subject


async def get_current_user(security_scopes: SecurityScopes, token: Annotated[str, Depends(oauth2_scheme)]):
    authenticate_value = f'Bearer scope="{security_scopes.scope_str}"' if security_scopes.scopes else "Bearer"
    credentials_exception = HTTPException(
        status_code=status.HTTP_401_UNAUTHORIZED,
        detail="Could not validate credentials",
        headers={"WWW-Authenticate": authenticate_value},
    )
    try:
        payload = jwt.decode(token, VERIFYING_KEY, algorithms=[ALGORITHM], audience=AUDIENCE, issuer=ISSUER)
        username = payload.get("sub")
        if username is None:
            raise credentials_exception
        token_data = TokenData(scopes=payload.get("scope", "").split(" "), username=username)
    except (InvalidTokenError, ValidationError):
        raise credentials_exception
    user = get_user(fake_users_db, token_data.username)
    if user is None:
        raise credentials_exception
    for scope in security_scopes.scopes:
        if scope not in token_data.scopes:
            raise HTTPException(
                status_code=status.HTTP_401_UNAUTHORIZED,
                detail="Not enough permissions",
                headers={"WWW-Authenticate": authenticate_value},
            )
    return user


@app.post("/token")
def login_for_access_token(form_data: Annotated[OAuth2PasswordRequestForm, Depends()]) -> Token:
    subject = authenticate_user(fake_users_db, form_data.username, form_data.password)
    if subject is None:
        raise HTTPException(status_code=400, detail="Incorrect username or password")
    now = datetime.now(timezone.utc)
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now, "scope": " ".join(form_data.scopes)}
    claims["exp"] = now + timedelta(minutes=ACCESS_TOKEN_EXPIRE_MINUTES)
    return Token(access_token=jwt.encode(claims, SIGNING_KEY, algorithm=ALGORITHM), token_type="bearer")


@app.get("/bare")
async def bare() -> Report:
    return Report(visitors=42)


@app.get("/protected")
async def protected(current_user: Annotated[User, Security(get_current_user, scopes=["items"])]) -> Report:
    return Report(visitors=42)
