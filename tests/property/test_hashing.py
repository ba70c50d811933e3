"""Hashes that chance changes, and passwords of every script."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time

from hypothesis import given, settings
from hypothesis import strategies as st
from passlib.handlers.pbkdf2 import pbkdf2_sha1, pbkdf2_sha256, pbkdf2_sha512
from passlib.handlers.scrypt import scrypt
from passlib.handlers.sha2_crypt import sha256_crypt, sha512_crypt

from schema_user.domain.password import Policy, forms, prepared
from schema_user.hashing.hasher import Hasher
from schema_user.hashing.kinds import NotAccepted, ShaCrypt, accept

SAMPLES = (
    "$argon2id$v=19$m=1024,t=2,p=2$c29tZXNhbHQ$lI7uT8tMGPws0s7vIM03gjVckqk4fOLUCGgv80S3TUU",
    "$argon2i$v=19$m=1024,t=3,p=2$c29tZXNhbHQ$sF1ksiDV4zVUwEe7MMY6zM/esfyS78mA2AIJpqJ/JPw",
    "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2",
    "$scrypt$ln=4,r=8,p=1$c2FsdA$lI7uT8tMGPws0s7vIM03gjVckqk4fOLUCGgv80S3TUU",
    "$pbkdf2$1000$c2FsdA$YSByb3VuZCB0d2VudHkgYi4",
    "$pbkdf2-sha256$1000$c2FsdA$lI7uT8tMGPws0s7vIM03gjVckqk4fOLUCGgv80S3TUU",
    "$5$saltstring$vc6YOOogU4kWVvwga8e9zTFgKcy4tb5LaPxIiPJzqEC",
    "$6$rounds=5000$saltstring$.r0X7ub5wGR2v4Xz7svCIozfnlorFh19V89t8KC9Umd81uGhFgsyTRNyzQDXDIm17fFcR9z3z7oBNdsyYBbtm/",
)
PIECES = st.one_of(
    st.text(st.sampled_from("$=,0123456789abzAZ./+-\n\0 \N{ARABIC-INDIC DIGIT TWO}\ud800"), max_size=6),
    st.sampled_from(
        ["$", "rounds=", "4294967296", "99999999999999999999", "-1", "1e9", "v=16", "ln=63", "\N{EURO SIGN}"]
    ),
    st.text(max_size=6),
)
PASSWORDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40)
HANDLERS = st.sampled_from([pbkdf2_sha1, pbkdf2_sha256, pbkdf2_sha512, scrypt])
POLICIES = st.builds(Policy, st.integers(1, 12), st.booleans(), st.booleans(), st.booleans(), st.booleans())


@st.composite
def mangled(draw: st.DrawFn, *, cost: bool = True) -> str:
    """Replace a piece of a hash, or several; those that say its cost too, or only what follows them."""
    text = draw(st.sampled_from(SAMPLES))
    first = 0 if cost else max(len("$2b$05$"), len(text.rsplit("$", 2)[0]))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(first, len(text)))
        text = text[:start] + draw(PIECES) + text[start + draw(st.integers(0, 8)) :]
    return text


@given(st.one_of(mangled(), st.text(max_size=210)))
@settings(max_examples=200)
def test_accept_never_fails(encoded: str) -> None:
    """Whatever is handed in is accepted or refused, at once."""
    before = time.process_time()
    with contextlib.suppress(NotAccepted):
        accept(encoded)
    assert time.process_time() - before < 0.05


@given(mangled(cost=False), st.text(max_size=20))
@settings(max_examples=50, deadline=None)
def test_what_is_accepted_can_be_compared(encoded: str, password: str) -> None:
    """A hash that was accepted never makes the comparison fail, and no password of chance matches it."""
    with contextlib.suppress(NotAccepted):
        accepted = accept(encoded)
        if not isinstance(accepted, ShaCrypt):
            assert not accepted.matches(password.replace("\0", "").encode("utf-8", "surrogatepass"))


@given(st.sampled_from([sha256_crypt, sha512_crypt]), PASSWORDS)
@settings(max_examples=10, deadline=None)
def test_sha_crypt_goes_through_a_process(handler: type[sha256_crypt], password: str) -> None:
    """A password of any script reaches the process whole."""
    assert ShaCrypt.read(handler.using(rounds=1_000).hash(password)).matches(password.encode())


@given(HANDLERS, PASSWORDS, st.binary(min_size=1, max_size=64))
@settings(max_examples=40, deadline=None)
def test_round_trip(handler: type[pbkdf2_sha1], password: str, salt: bytes) -> None:
    """What another library writes, for any salt, is read and matches its password only."""
    accepted = accept(handler.using(rounds=4, salt=salt).hash(password))
    assert accepted.matches(password.encode())
    assert not accepted.matches(password.encode() + b"x")


@given(PASSWORDS)
@settings(max_examples=10, deadline=None)
def test_own(password: str) -> None:
    """Each form of a password matches the hash of each other one."""

    async def check() -> None:
        hasher = Hasher()
        for made in forms(password):
            encoded = await hasher.hash(made)
            for typed in forms(password):
                assert await hasher.matches(typed, encoded)
        await hasher.close()

    asyncio.run(check())


@given(st.text(max_size=40))
def test_prepared_once(password: str) -> None:
    """Preparing what was prepared changes nothing, so every policy judges what is hashed."""
    assert prepared(prepared(password)) == prepared(password)
    assert Policy().problems(prepared(password)) == Policy().problems(password)


@given(POLICIES, POLICIES, st.text(max_size=14))
def test_at_least_means_at_least(one: Policy, other: Policy, password: str) -> None:
    """A policy that is at least another one finds every fault that the other one finds."""
    pairs = zip(dataclasses.astuple(one), dataclasses.astuple(other), strict=True)
    tighter = Policy(*(max(pair) for pair in pairs))
    assert tighter.is_at_least(one)
    assert tighter.is_at_least(other)
    assert {reason for reason, _ in other.problems(password)} <= {reason for reason, _ in tighter.problems(password)}
