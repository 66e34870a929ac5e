#!/usr/bin/env python3
"""Makes `list.bin`, the common passwords that `src/password/common.rs` looks up, from two packages of PyPI.

    pip download --no-deps Django==5.2.19 zxcvbn==4.5.0
    python3 make.py django-5.2.19-py3-none-any.whl zxcvbn-4.5.0-py2.py3-none-any.whl

Words of 8 code points and more are kept, as no policy lets a shorter password pass. Each becomes the first 6 bytes of the
SHA-256 of its folded form: NFKC, lower case, NFKC. They are sorted, without a header. The same input makes the same bytes.
"""

import ast
import gzip
import hashlib
import pathlib
import sys
import unicodedata
import zipfile

SOURCES = {
    "django": (
        "5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00",
        "django/contrib/auth/common-passwords.txt.gz",
    ),
    "zxcvbn": (
        "2b6eed621612ce6d65e6e4c7455b966acee87d0280e257956b1f06ccc66bd5ff",
        "zxcvbn/frequency_lists.py",
    ),
}
LEAST = 8
BYTES = 6


def fold(word):
    lowered = "".join(character.lower() for character in unicodedata.normalize("NFKC", word))
    return unicodedata.normalize("NFKC", lowered)


def read(path, digest, member):
    data = pathlib.Path(path).read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        sys.exit(f"{path} is another file than this was written for")
    return zipfile.ZipFile(path).open(member).read()


def django(text):
    return gzip.decompress(text).decode().splitlines()


def zxcvbn(text):
    """Its passwords, and the words and names that it counts as guessed: one of them alone is no better."""
    (lists,) = [node.value for node in ast.parse(text).body if isinstance(node, ast.Assign)]
    # Each is written as `"123456,password,…".split(",")`.
    return [word for value in lists.values for word in value.func.value.value.split(",")]


def main(paths):
    words = set()
    for path, (name, (digest, member)) in zip(paths, SOURCES.items(), strict=True):
        found = {fold(word) for word in globals()[name](read(path, digest, member))}
        found = {word for word in found if len(word) >= LEAST}
        print(f"{name}: {len(found)} words, {sum(len(word) >= 15 for word in found)} of 15 code points and more")
        words |= found
    hashes = sorted({hashlib.sha256(word.encode()).digest()[:BYTES] for word in words})
    target = pathlib.Path(__file__).with_name("list.bin")
    target.write_bytes(b"".join(hashes))
    print(f"{target.name}: {len(hashes)} of {len(words)} words, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
