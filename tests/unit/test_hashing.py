"""Hashes of passwords: known ones, those that are refused, and what hashing does to everybody else."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from passlib.handlers.pbkdf2 import pbkdf2_sha1, pbkdf2_sha256, pbkdf2_sha512
from passlib.handlers.scrypt import scrypt
from passlib.handlers.sha2_crypt import sha256_crypt, sha512_crypt

from schema_user.errors import Unavailable
from schema_user.hashing import kinds
from schema_user.hashing.hasher import Hasher
from schema_user.hashing.kinds import MAX_ENCODED, NotAccepted, accept

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PLAIN = "correct horse"
WIDE = "p\N{LATIN SMALL LETTER A WITH DIAERESIS}ssw\N{LATIN SMALL LETTER O WITH DIAERESIS}rd \N{EURO SIGN}"
BCRYPT = "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2"
SHA256_CRYPT = "$5$saltstring$vc6YOOogU4kWVvwga8e9zTFgKcy4tb5LaPxIiPJzqEC"
SHA512_CRYPT = "$6$saltstring$.r0X7ub5wGR2v4Xz7svCIozfnlorFh19V89t8KC9Umd81uGhFgsyTRNyzQDXDIm17fFcR9z3z7oBNdsyYBbtm/"
SHA512_CRYPT_ROUNDS = (
    "$6$rounds=1400$anotherlongsalts"
    "$/zQoRRcWZYKkW28CeiPiPWO0D99rKTxFsSfZlizolJ3DsBsL.kkUf6Mc37WYRf.6xKr0g7G301whgEMga04fY/"
)
ARGON2ID = "$argon2id$v=19$m=1024,t=2,p=2$c29tZXNhbHQ$lI7uT8tMGPws0s7vIM03gjVckqk4fOLUCGgv80S3TUU"

# argon2: libargon2, the reference; bcrypt and sha-crypt: crypt(3) of libxcrypt, and `openssl passwd`.
KNOWN = [
    (PLAIN, ARGON2ID),
    (WIDE, "$argon2id$v=19$m=1024,t=2,p=2$c29tZXNhbHQ$962MDyflEKbLHajMhZy+XTq6Das4aReQ7V9nWPHTtyI"),
    (PLAIN, "$argon2i$v=19$m=1024,t=3,p=2$c29tZXNhbHQ$sF1ksiDV4zVUwEe7MMY6zM/esfyS78mA2AIJpqJ/JPw"),
    (WIDE, "$argon2i$v=19$m=1024,t=3,p=2$c29tZXNhbHQ$cTjX2G9un57DtRDLqYK4A11HtpSqJMy/SorloKi+Zvk"),
    (PLAIN, "$argon2i$v=16$m=1024,t=2,p=2$c29tZXNhbHQ$xa88/D1mJQOVxFhIESg1DB8Ukn262bl8F6N+uLsNwJ0"),
    (PLAIN, "$argon2i$m=1024,t=2,p=2$c29tZXNhbHQ$xa88/D1mJQOVxFhIESg1DB8Ukn262bl8F6N+uLsNwJ0"),
    (PLAIN, BCRYPT),
    (PLAIN, BCRYPT.replace("$2b$", "$2a$")),
    (PLAIN, BCRYPT.replace("$2b$", "$2y$")),
    (WIDE, "$2y$05$abcdefghijklmnopqrstuuY8YJcx7OeCJ9JYO3w834ps8x/8H3Gfy"),
    (PLAIN, SHA256_CRYPT),
    (WIDE, "$5$saltstring$tV/79FUyRyNvGfmciS94zbnccDZxa8C4Dhg8hsaSdS0"),
    (PLAIN, SHA512_CRYPT),
    (WIDE, SHA512_CRYPT_ROUNDS),
    (
        "Hello world!",
        "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
    ),
]


@pytest_asyncio.fixture
async def hasher() -> AsyncIterator[Hasher]:
    """Hash in two threads."""
    made = Hasher(threads=2, max_waiting=2)
    yield made
    await made.close()


def unpadded(raw: bytes) -> str:
    """Write bytes as the formats do."""
    return base64.b64encode(raw).rstrip(b"=").decode()


class TestKnown:
    @pytest.mark.parametrize(("password", "encoded"), KNOWN, ids=range(len(KNOWN)))
    async def test_match(self, hasher: Hasher, password: str, encoded: str) -> None:
        """A hash that another program made matches its password, and no other."""
        assert await hasher.matches(password, encoded)
        assert not await hasher.matches(password + "x", encoded)

    @pytest.mark.parametrize("handler", [pbkdf2_sha1, pbkdf2_sha256, pbkdf2_sha512], ids=str)
    async def test_pbkdf2(self, hasher: Hasher, handler: type[pbkdf2_sha1]) -> None:
        """What passlib writes for PBKDF2 is understood."""
        encoded = handler.using(rounds=1_000).hash(WIDE)
        assert await hasher.matches(WIDE, encoded)
        assert not await hasher.matches(PLAIN, encoded)

    async def test_scrypt(self, hasher: Hasher) -> None:
        """What passlib writes for scrypt is understood, as is what the standard library computes."""
        assert await hasher.matches(WIDE, scrypt.using(rounds=4, block_size=2, parallelism=3).hash(WIDE))
        digest = hashlib.scrypt(PLAIN.encode(), salt=b"salt", n=16, r=8, p=2, dklen=64)
        encoded = f"$scrypt$ln=4,r=8,p=2${unpadded(b'salt')}${unpadded(digest)}"
        assert await hasher.matches(PLAIN, encoded)
        assert not await hasher.matches(WIDE, encoded)

    async def test_what_passlib_makes_by_default(self) -> None:
        """Nobody has to change a default of passlib's first: its hashes are within the bounds."""
        for handler in (pbkdf2_sha1, pbkdf2_sha256, pbkdf2_sha512, scrypt, sha256_crypt, sha512_crypt):
            name, rounds = handler.name, handler.default_rounds
            sample = handler.using(rounds=max(1_000, handler.min_rounds) if name != "scrypt" else 4).hash(PLAIN)
            digits = {"scrypt": "ln=4", "sha256_crypt": "rounds=1000", "sha512_crypt": "rounds=1000"}.get(
                name, "$1000$"
            )
            accept(sample.replace(digits, digits.replace("1000", str(rounds)).replace("ln=4", f"ln={rounds}")))

    async def test_72_bytes_of_bcrypt(self, hasher: Hasher) -> None:
        """Who had a longer password when bcrypt hashed it still gets in; it never saw the rest."""
        encoded = "$2b$05$abcdefghijklmnopqrstuuGUnCqbfgs3htOkLrFduUjAyLBw1Rq/u"
        assert await hasher.matches("a" * 72 + "b", encoded)
        assert not await hasher.matches("a" * 71, encoded)

    @pytest.mark.parametrize("encoded", [ARGON2ID, BCRYPT, SHA256_CRYPT])
    async def test_nul_never_matches(self, hasher: Hasher, encoded: str) -> None:
        """To bcrypt and HMAC some passwords with NUL are the same as without: none of them is right."""
        assert not await hasher.matches(PLAIN + "\0", encoded)
        assert not await hasher.matches(f"{PLAIN}\0{PLAIN}", encoded)


class TestOwn:
    async def test_hash(self, hasher: Hasher) -> None:
        """Our own are argon2id as OWASP asks for, salted, and need no upgrade."""
        one, two = await hasher.hash(WIDE), await hasher.hash(WIDE)
        assert one.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert one != two
        assert len(one) <= MAX_ENCODED
        assert await hasher.matches(WIDE, one)
        assert not await hasher.matches(PLAIN, one)
        assert not hasher.needs_upgrade(one)

    async def test_either_keyboard(self, hasher: Hasher) -> None:
        """A letter that one keyboard sends as one code point and another as two is the same letter."""
        composed, decomposed = "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"
        assert await hasher.matches(composed, await hasher.hash(decomposed))
        assert await hasher.matches(decomposed, await hasher.hash(composed))

    async def test_foreign_form(self, hasher: Hasher) -> None:
        """A hash from elsewhere matches what was typed there, prepared or not."""
        typed = "cafe\N{COMBINING ACUTE ACCENT}"
        assert await hasher.matches(typed, pbkdf2_sha256.using(rounds=1_000).hash(typed))

    async def test_surrogate(self, hasher: Hasher) -> None:
        """Half a surrogate pair is a wrong password and no failure."""
        assert not await hasher.matches("\ud800", BCRYPT)

    @pytest.mark.parametrize(
        ("encoded", "upgraded"),
        [
            (ARGON2ID, True),
            (f"$argon2id$v=16$m=19456,t=2,p=1${unpadded(bytes(16))}${unpadded(bytes(32))}", True),
            (BCRYPT, True),
            (SHA512_CRYPT, True),
            (f"$argon2id$v=19$m=19456,t=2,p=1${unpadded(bytes(16))}${unpadded(bytes(32))}", False),
            (f"$argon2id$v=19$m=65536,t=3,p=4${unpadded(bytes(16))}${unpadded(bytes(32))}", False),
            (f"$argon2id$v=19$m=65536,t=1,p=4${unpadded(bytes(16))}${unpadded(bytes(32))}", True),
            (f"$argon2id$v=19$m=65536,t=3,p=4${unpadded(bytes(8))}${unpadded(bytes(32))}", True),
            (f"$argon2id$v=19$m=65536,t=3,p=4${unpadded(bytes(16))}${unpadded(bytes(16))}", True),
            (f"$argon2i$v=19$m=65536,t=3,p=4${unpadded(bytes(16))}${unpadded(bytes(32))}", True),
        ],
        ids=range(10),
    )
    def test_needs_upgrade(self, encoded: str, upgraded: bool) -> None:
        """Everything but argon2id of at least our own strength is replaced; what is stronger is never weakened."""
        assert Hasher.needs_upgrade(encoded) is upgraded

    async def test_pretend(self, hasher: Hasher) -> None:
        """Somebody without a password costs what somebody with one costs."""
        encoded = await hasher.hash(PLAIN)
        spent = []
        for attempt in (hasher.matches("wrong", encoded), hasher.pretend("wrong")):
            before = time.thread_time() + time.process_time()
            await attempt
            spent.append(time.thread_time() + time.process_time() - before)
        assert 0.2 < spent[0] / spent[1] < 5


TOO_COSTLY = [
    "$argon2id$v=19$m=262145,t=1,p=1$c29tZXNhbHQ$" + unpadded(bytes(32)),
    "$argon2id$v=19$m=262144,t=3,p=1$c29tZXNhbHQ$" + unpadded(bytes(32)),
    "$argon2i$v=19$m=1024,t=4294967295,p=1$c29tZXNhbHQ$" + unpadded(bytes(32)),
    "$argon2id$v=19$m=65536,t=1,p=65$c29tZXNhbHQ$" + unpadded(bytes(32)),
    "$argon2id$v=19$m=512,t=17,p=64$c29tZXNhbHQ$" + unpadded(bytes(32)),
    "$argon2id$v=19$m=8,t=65536,p=1$c29tZXNhbHQ$" + unpadded(bytes(32)),
    "$2b$15$" + BCRYPT[7:],
    "$2b$31$" + BCRYPT[7:],
    "$scrypt$ln=19,r=8,p=1$c2FsdA$" + unpadded(bytes(32)),
    "$scrypt$ln=18,r=8,p=2$c2FsdA$" + unpadded(bytes(32)),
    "$scrypt$ln=9999999999,r=1,p=1$c2FsdA$" + unpadded(bytes(32)),
    "$scrypt$ln=16,r=1,p=1$c2FsdA$" + unpadded(bytes(32)),
    "$scrypt$ln=1,r=65,p=1$c2FsdA$" + unpadded(bytes(32)),
    "$scrypt$ln=1,r=1,p=65$c2FsdA$" + unpadded(bytes(32)),
    "$pbkdf2$4000001$c2FsdA$" + unpadded(bytes(20)),
    "$pbkdf2-sha256$4000001$c2FsdA$" + unpadded(bytes(32)),
    "$pbkdf2-sha512$1400001$c2FsdA$" + unpadded(bytes(64)),
    "$5$rounds=656001$" + SHA256_CRYPT[3:],
    "$6$rounds=999999999$" + SHA512_CRYPT[3:],
]

AT_THE_BOUND = [
    "$argon2id$v=19$m=262144,t=2,p=1$c29tZXNhbHQ$" + unpadded(bytes(32)),
    "$argon2i$v=19$m=512,t=16,p=64$c29tZXNhbHQ$" + unpadded(bytes(16)),
    "$2a$04$" + BCRYPT[7:],
    "$2b$14$" + BCRYPT[7:],
    "$scrypt$ln=18,r=8,p=1$c2FsdA$" + unpadded(bytes(64)),
    "$scrypt$ln=9,r=64,p=64$c2FsdA$" + unpadded(bytes(16)),
    "$scrypt$ln=15,r=1,p=64$c2FsdA$" + unpadded(bytes(16)),
    "$pbkdf2$4000000$c2FsdA$" + unpadded(bytes(20)),
    "$pbkdf2-sha512$1$c2FsdA$" + unpadded(bytes(64)),
    "$5$rounds=656000$" + SHA256_CRYPT[3:],
    "$6$rounds=1000$" + SHA512_CRYPT[3:],
]

MALFORMED = [
    "",
    "$",
    "$$",
    "plain",
    "x" * (MAX_ENCODED + 1),
    "$1$salt$8ijfYwN7kzAXFZY4HnEFg/",
    "$y$j9T$salt$digest",
    "$2x$05$" + BCRYPT[7:],
    "$argon2d" + ARGON2ID[9:],
    ARGON2ID.replace("v=19", "v=17"),
    ARGON2ID.replace("m=1024,t=2", "t=2,m=1024"),
    ARGON2ID.replace("p=2", "p=2,keyid=QQ"),
    ARGON2ID.replace("t=2", "t=0"),
    ARGON2ID.replace("t=2", "t=02"),
    ARGON2ID.replace("t=2", "t=\N{ARABIC-INDIC DIGIT TWO}"),
    ARGON2ID.replace("m=1024", "m=15"),
    ARGON2ID.replace("c29tZXNhbHQ", "c2FsdA"),
    ARGON2ID.replace("c29tZXNhbHQ", "c29tZXNhbHR"),
    ARGON2ID.replace("c29tZXNhbHQ", "c29tZXNhbHQ="),
    ARGON2ID.replace("c29tZXNhbHQ", "c29tZXN\N{LATIN SMALL LETTER E WITH ACUTE}bHQ"),
    ARGON2ID.replace("c29tZXNhbHQ", ""),
    ARGON2ID[:-2],
    ARGON2ID + "\n",
    ARGON2ID + "$",
    ARGON2ID.rpartition("$")[0] + "$" + unpadded(bytes(15)),
    ARGON2ID.rpartition("$")[0] + "$" + unpadded(bytes(65)),
    "$2b$03$" + BCRYPT[7:],
    "$2b$5$" + BCRYPT[7:],
    BCRYPT[:-1],
    BCRYPT + "a",
    BCRYPT + "\n",
    BCRYPT[:28] + "v" + BCRYPT[29:],
    BCRYPT[:-1] + "3",
    "$scrypt$ln=0,r=8,p=1$c2FsdA$" + unpadded(bytes(32)),
    "$scrypt$ln=4,r=8,p=1$$" + unpadded(bytes(32)),
    "$scrypt$ln=4,r=8$c2FsdA$" + unpadded(bytes(32)),
    "$pbkdf2-sha256$0$c2FsdA$" + unpadded(bytes(32)),
    "$pbkdf2-sha256$1000$c2FsdA$" + unpadded(bytes(20)),
    "$pbkdf2-sha256$1000$c2F+dA$" + unpadded(bytes(32)),
    "$pbkdf2-sha384$1000$c2FsdA$" + unpadded(bytes(48)),
    "$5$rounds=999$" + SHA256_CRYPT[3:],
    "$5$rounds=01000$" + SHA256_CRYPT[3:],
    "$5$rounds=$" + SHA256_CRYPT[3:],
    "$5$$" + SHA256_CRYPT.rpartition("$")[2],
    "$5$saltstringthatislong$" + SHA256_CRYPT.rpartition("$")[2],
    "$5$salt_string$" + SHA256_CRYPT.rpartition("$")[2],
    SHA256_CRYPT[:-1],
    SHA256_CRYPT[:-1] + "E",
    SHA512_CRYPT[:-1] + "2",
    SHA512_CRYPT.replace("$6$", "$5$"),
]


class TestRefused:
    @pytest.mark.parametrize("encoded", TOO_COSTLY, ids=range(len(TOO_COSTLY)))
    async def test_too_costly(self, hasher: Hasher, encoded: str) -> None:
        """A cost beyond the bound is refused before any work, when it is handed in and when it is compared."""
        before = time.process_time()
        with pytest.raises(NotAccepted, match=r"at most|must be|less than"):
            accept(encoded)
        with pytest.raises(NotAccepted):
            await hasher.matches(PLAIN, encoded)
        assert time.process_time() - before < 0.05

    @pytest.mark.parametrize("encoded", AT_THE_BOUND, ids=range(len(AT_THE_BOUND)))
    def test_at_the_bound(self, encoded: str) -> None:
        """The bound itself is accepted, and so is what is weak."""
        accept(encoded)

    @pytest.mark.parametrize("encoded", MALFORMED, ids=range(len(MALFORMED)))
    def test_malformed(self, encoded: str) -> None:
        """What no maker of the format writes is refused, and never repeated in the refusal."""
        with pytest.raises(NotAccepted) as caught:
            accept(encoded)
        assert len(encoded) < 4 or encoded not in str(caught.value)

    def test_hashes_are_not_shown(self) -> None:
        """A hash that finds its way into a traceback does not show its salt or digest."""
        for _, encoded in KNOWN:
            assert encoded.rpartition("$")[2][:12] not in repr(accept(encoded))


class TestLoop:
    @pytest.mark.parametrize(
        "encoded",
        [
            ARGON2ID.replace("m=1024,t=2", "m=65536,t=4"),
            "$2b$12$" + BCRYPT[7:],
            "$scrypt$ln=16,r=8,p=1$c2FsdA$" + unpadded(bytes(32)),
            "$pbkdf2-sha256$1000000$c2FsdA$" + unpadded(bytes(32)),
            "$5$rounds=400000$" + SHA256_CRYPT[3:],
        ],
        ids=["argon2", "bcrypt", "scrypt", "pbkdf2", "sha-crypt"],
    )
    async def test_keeps_turning(self, hasher: Hasher, encoded: str) -> None:
        """While a password is compared, other tasks go on."""
        task = asyncio.ensure_future(hasher.matches(PLAIN, encoded))
        turns = 0
        while not task.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert not await task
        assert turns > 20

    async def test_lanes_at_once(self, hasher: Hasher) -> None:
        """Hashes of several lanes that are compared at the same time don't wait for each other."""
        for _ in range(10):
            assert await asyncio.gather(*(hasher.matches(PLAIN, ARGON2ID) for _ in range(4))) == [True] * 4

    async def test_queue_full(self, hasher: Hasher) -> None:
        """With two at work and two waiting the next one is refused at once; afterwards there is room again."""
        tasks = [asyncio.ensure_future(hasher.hash(PLAIN)) for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as caught:
            await hasher.hash(PLAIN)
        assert (caught.value.reason, caught.value.retry_after) == ("QUEUE_FULL", 1)
        await asyncio.gather(*tasks)
        assert await hasher.hash(PLAIN)

    async def test_dear_hashes_hold_up_none_of_ours(self, hasher: Hasher) -> None:
        """While every place for hashes that cost more than ours is taken, one of ours is made and compared."""
        dear = ARGON2ID.replace("m=1024,t=2", "m=65536,t=4")
        tasks = [asyncio.ensure_future(hasher.matches(PLAIN, dear)) for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await hasher.matches(PLAIN, dear)
        assert await hasher.matches(PLAIN, await hasher.hash(PLAIN))
        assert not tasks[-1].done()
        await asyncio.gather(*tasks)

    async def test_who_leaves_makes_room(self, hasher: Hasher) -> None:
        """A caller that gives up while it waits leaves its place to the next one."""
        tasks = [asyncio.ensure_future(hasher.hash(PLAIN)) for _ in range(4)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert tasks[3].cancelled()
        assert await asyncio.gather(*(hasher.hash(PLAIN) for _ in range(4)))

    async def test_close(self) -> None:
        """Closing waits for what has begun and cancels what waits."""
        hasher = Hasher(threads=1)
        tasks = [asyncio.ensure_future(hasher.hash(PLAIN)) for _ in range(3)]
        await asyncio.sleep(0.02)
        await hasher.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], str)
        assert isinstance(results[2], asyncio.CancelledError)

    async def test_no_time_for_a_process(self, hasher: Hasher, monkeypatch: pytest.MonkeyPatch) -> None:
        """A comparison that gets no time of the machine is given up and may be tried again."""
        monkeypatch.setattr(kinds, "_SHA_CRYPT_SECONDS", 0.001)
        with pytest.raises(Unavailable):
            await hasher.matches(PLAIN, SHA256_CRYPT)
