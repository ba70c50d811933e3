"""The settings, read once from the environment and never changed afterwards.

Every variable begins with ``SCHEMA_USER_``. A secret may be given as a file instead, by the same name with
``_FILE`` at its end. All mistakes are reported at once, so that a deployment is mended in one round.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import parseaddr
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from schema_user.domain.duration import parse_duration
from schema_user.domain.issuer import Issuer, read_issuers
from schema_user.domain.password import MAX_LENGTH, Policy
from schema_user.domain.rate import RATE_RULE, Rate, parse_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

PREFIX = "SCHEMA_USER_"
SECRETS = ("MONGODB_URI", "BOOTSTRAP_TOKEN", "SECRET_KEY", "SMTP_URL", "SMS_URL")
SECRET_MIN_CHARACTERS = 32
PASSWORD_NEEDS = ("lowercase", "uppercase", "number", "symbol")


class SettingsError(Exception):
    """One or more settings are wrong; each line of the text names one."""

    def __init__(self, problems: list[str]) -> None:
        """Keep the sentences, one for each setting that is wrong."""
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Settings:
    """What a deployment can choose. Sizes are in bytes, times are ``timedelta``."""

    host: str = "127.0.0.1"
    port: int = 8080
    grpc_port: int | None = None
    processes: int = 1
    data_dir: Path = Path("var")
    mongodb_uri: str | None = field(default=None, repr=False)
    mongodb_driver: str = "pymongo"
    mongodb_timeout: timedelta = timedelta(seconds=5)
    validator: str = "rust"
    validator_cache_bytes: int = 256 * 1024 * 1024
    validation_workers: int | None = None
    bootstrap_token: str | None = field(default=None, repr=False)
    secret_keys: tuple[str, ...] = field(default=(), repr=False)
    public_url: str = ""
    smtp_url: str | None = field(default=None, repr=False)
    mail_from: str = "schema-user <no-reply@localhost>"
    mail_from_domains: tuple[str, ...] = ()
    sms_url: str | None = field(default=None, repr=False)
    rate_limit_token: Rate | None = None
    rate_limit_organization: Rate | None = None
    cors_origins: tuple[str, ...] = ()
    request_timeout: timedelta = timedelta(seconds=30)
    body_max_bytes: int = 1024 * 1024
    body_max_depth: int = 64
    schema_max_bytes: int = 256 * 1024
    email_code_ttl: timedelta = timedelta(hours=1)
    phone_code_ttl: timedelta = timedelta(minutes=10)
    history_ttl: timedelta | None = None
    code_length: int = 6
    code_attempts: int = 5
    resend_after: timedelta = timedelta(seconds=30)
    resends_per_day: int = 10
    codes_per_address: int = 20
    codes_per_organization: int = 10_000
    codes_per_phone_prefix: int = 100
    unique_emails: bool = False
    password_min_length: int = 8
    password_needs: tuple[str, ...] = PASSWORD_NEEDS
    password_tries: int = 10
    password_locked_for: timedelta = timedelta(minutes=15)
    phone_countries: tuple[str, ...] = ()
    default_phone_region: str | None = None
    url_template_hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    pages_per_peer: int = 120
    pages_per_user: int = 30
    token_failures_per_peer: int = 120
    oidc_issuers: tuple[Issuer, ...] = ()
    oidc_keys_ttl: timedelta = timedelta(hours=24)
    allow_private_addresses: bool | None = None
    worker: bool = True
    log_level: str = "INFO"

    @property
    def validation_workers_here(self) -> int:
        """How many validation workers each HTTP process has: unset, the cores and one more are shared among them."""
        return self.validation_workers or max(2, (_cores() + 1) // self.processes)

    @property
    def service(self) -> str:
        """What people know the service by: the name of the sender of mail, else the host of the public URL."""
        return parseaddr(self.mail_from)[0] or urlsplit(self.public_url).netloc.rpartition("@")[2]

    @property
    def password_policy(self) -> Policy:
        """What new passwords must have."""
        return Policy(self.password_min_length, *(each in self.password_needs for each in PASSWORD_NEEDS))

    @property
    def private_addresses_allowed(self) -> bool:
        """Whether addresses that others chose may be private: unset, on the local database only."""
        return self.embedded if self.allow_private_addresses is None else self.allow_private_addresses

    @property
    def embedded(self) -> bool:
        """Whether the database is the local one that the server starts itself."""
        return self.mongodb_uri is None


def _cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Reader:
    """Takes values out of one environment and collects what is wrong with them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.problems: list[str] = []

    def raw(self, name: str) -> str | None:
        """Give the value of a setting, from its file if it is a secret given so; empty means unset."""
        key = PREFIX + name
        value = self.environment.get(key, "").strip() or None
        path = self.environment.get(key + "_FILE", "").strip() if name in SECRETS else ""
        if not path:
            return value
        if value is not None:
            self.problems.append(f"{key} and {key}_FILE are both set: choose one.")
        try:
            return Path(path).read_text(encoding="utf-8").strip() or None
        except (OSError, UnicodeDecodeError) as error:
            self.problems.append(f"{key}_FILE cannot be read: {type(error).__name__}.")
            return None

    def take(self, name: str, default: T, parse: Callable[[str], T], rule: str) -> T:
        """Parse one setting; ``parse`` raises ValueError for a value that breaks ``rule``."""
        value = self.raw(name)
        if value is None:
            return default
        try:
            return parse(value)
        except ValueError:
            self.problems.append(f"{PREFIX}{name} must be {rule}.")
            return default

    def issuers(self, path: str) -> tuple[Issuer, ...]:
        """Read the file of issuers, and say all that is wrong with it."""
        key = PREFIX + "OIDC_ISSUERS"
        try:
            issuers, mistakes = read_issuers(Path(path).read_bytes())
        except OSError as error:
            self.problems.append(f"{key} cannot be read: {type(error).__name__}.")
            return ()
        self.problems += (f"{key}: {mistake}." for mistake in mistakes)
        return issuers


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        if not low <= number <= high:
            raise ValueError
        return number

    return parse


def _span(low: timedelta, high: timedelta) -> Callable[[str], timedelta]:
    def parse(text: str) -> timedelta:
        span = parse_duration(text)
        if not low <= span <= high:
            raise ValueError
        return span

    return parse


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError
        return text

    return parse


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        parts = urlsplit(text)
        if parts.scheme not in schemes or not parts.hostname:
            raise ValueError
        return text

    return parse


def _region(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z]{2}", text):
        raise ValueError
    return text.upper()


def _regions(text: str) -> tuple[str, ...]:
    return tuple(_region(each.strip()) for each in text.split(","))


def _password_needs(text: str) -> tuple[str, ...]:
    named = {each.strip().lower() for each in text.split(",")} - {"none"}
    if not named <= set(PASSWORD_NEEDS):
        raise ValueError
    return tuple(each for each in PASSWORD_NEEDS if each in named)


def _hosts(text: str) -> tuple[str, ...]:
    return tuple(host.strip().lower() for host in text.split(",") if host.strip())


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(each.strip()) for each in text.split(",") if each.strip())


def _origins(text: str) -> tuple[str, ...]:
    """Read origins as browsers write them (RFC 6454, 6.2): lower case, no default port, no path; neither * nor null."""
    return tuple(_origin(each.strip()) for each in text.split(",") if each.strip())


def _origin(text: str) -> str:
    parts = urlsplit(text)
    port = f":{parts.port}" if parts.port is not None else ""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    plain = f"{parts.scheme}://{host}{port}"
    if parts.scheme not in _DEFAULT_PORTS or not re.fullmatch(_HOST, host or "") or text.rstrip("/").lower() != plain:
        raise ValueError
    return plain.removesuffix(_DEFAULT_PORTS[parts.scheme])


def _domains(text: str) -> tuple[str, ...]:
    found = tuple(host.encode("idna").decode("ascii") for host in _hosts(text))
    if not all(re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)*", domain) for domain in found):
        raise ValueError
    return found


def _token(text: str) -> str:
    if len(text) < SECRET_MIN_CHARACTERS or not re.fullmatch(r"[!-~]+", text):
        raise ValueError
    return text


def _secret_keys(text: str) -> tuple[str, ...]:
    keys = tuple(key.strip() for key in text.split(",") if key.strip())
    if not keys or any(len(key) < SECRET_MIN_CHARACTERS for key in keys):
        raise ValueError
    return keys


def _truth(text: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[_choice("true", "1", "false", "0")(text.lower())]


_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_HOST = r"[a-z0-9._-]+|\[[0-9a-f:.]+\]"
_SECOND, _DAY, _YEAR = timedelta(seconds=1), timedelta(days=1), timedelta(days=366)
_MEBIBYTE = 1024 * 1024
_DURATION = "a duration such as 90s, 10m or 1h"
_CAP, _CAP_RULE = _number(1, 10**9), "between 1 and 1000000000"


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings out of an environment (by default the process's own).

    Raises:
        SettingsError: with every setting that is wrong.
    """
    take = (reader := _Reader(os.environ if environment is None else environment)).take
    base = Settings()
    host = take("HOST", base.host, str, "a host name or address")
    port = take("PORT", base.port, _number(1, 65535), "a port between 1 and 65535")
    shown = f"[{host}]" if ":" in host else host
    settings = Settings(
        host=host,
        port=port,
        grpc_port=take("GRPC_PORT", None, _number(1, 65535), "a port between 1 and 65535"),
        processes=take("PROCESSES", base.processes, _number(1, 64), "a number between 1 and 64"),
        data_dir=take("DATA_DIR", base.data_dir, Path, "a directory").absolute(),
        mongodb_uri=take("MONGODB_URI", None, _url("mongodb", "mongodb+srv"), "a mongodb:// or mongodb+srv:// URI"),
        mongodb_driver=take("MONGODB_DRIVER", base.mongodb_driver, _choice("pymongo", "motor"), "pymongo or motor"),
        mongodb_timeout=take(
            "MONGODB_TIMEOUT", base.mongodb_timeout, _span(_SECOND, 60 * _SECOND), "between 1s and 60s"
        ),
        validator=take("VALIDATOR", base.validator, _choice("rust", "python"), "rust or python"),
        validator_cache_bytes=take(
            "VALIDATOR_CACHE_BYTES",
            base.validator_cache_bytes,
            _number(_MEBIBYTE, 2**40),
            "a number of bytes, 1048576 at least",
        ),
        validation_workers=take("VALIDATION_WORKERS", None, _number(1, 64), "a number between 1 and 64"),
        bootstrap_token=take("BOOTSTRAP_TOKEN", None, _token, f"{SECRET_MIN_CHARACTERS} printable characters or more"),
        secret_keys=take(
            "SECRET_KEY", (), _secret_keys, f"keys of {SECRET_MIN_CHARACTERS} characters or more, the new one first"
        ),
        public_url=take(
            "PUBLIC_URL", f"http://{shown}:{port}", _url("http", "https"), "an http:// or https:// URL"
        ).rstrip("/"),
        smtp_url=take("SMTP_URL", None, _url("smtp", "smtps"), "an smtp:// or smtps:// URL"),
        mail_from=take("MAIL_FROM", base.mail_from, str, "an address"),
        mail_from_domains=take("MAIL_FROM_DOMAINS", (), _domains, "domains, separated by commas"),
        sms_url=take("SMS_URL", None, _url("https", "http", "twilio"), "an https:// or twilio:// URL"),
        rate_limit_token=take("RATE_LIMIT_TOKEN", None, parse_rate, RATE_RULE),
        rate_limit_organization=take("RATE_LIMIT_ORGANIZATION", None, parse_rate, RATE_RULE),
        cors_origins=take("CORS_ORIGINS", (), _origins, "origins such as https://app.example.com, separated by commas"),
        request_timeout=take(
            "REQUEST_TIMEOUT", base.request_timeout, _span(_SECOND, timedelta(minutes=10)), "between 1s and 10m"
        ),
        body_max_bytes=take(
            "BODY_MAX_BYTES", base.body_max_bytes, _number(1024, 8 * _MEBIBYTE), "between 1024 and 8388608"
        ),
        body_max_depth=take("BODY_MAX_DEPTH", base.body_max_depth, _number(8, 64), "between 8 and 64"),
        schema_max_bytes=take(
            "SCHEMA_MAX_BYTES", base.schema_max_bytes, _number(1024, _MEBIBYTE), "between 1024 and 1048576"
        ),
        email_code_ttl=take("EMAIL_CODE_TTL", base.email_code_ttl, _span(_SECOND, _YEAR), _DURATION),
        phone_code_ttl=take("PHONE_CODE_TTL", base.phone_code_ttl, _span(_SECOND, _YEAR), _DURATION),
        history_ttl=take("HISTORY_TTL", None, _span(_DAY, 100 * _YEAR), "a duration such as 90d, 1d at least"),
        code_length=take("CODE_LENGTH", base.code_length, _number(6, 20), "between 6 and 20"),
        code_attempts=take("CODE_ATTEMPTS", base.code_attempts, _number(1, 20), "between 1 and 20"),
        resend_after=take("RESEND_AFTER", base.resend_after, _span(timedelta(0), _DAY), "between 0s and 1d"),
        resends_per_day=take("RESENDS_PER_DAY", base.resends_per_day, _number(1, 100), "between 1 and 100"),
        codes_per_address=take("CODES_PER_ADDRESS", base.codes_per_address, _CAP, _CAP_RULE),
        codes_per_organization=take("CODES_PER_ORGANIZATION", base.codes_per_organization, _CAP, _CAP_RULE),
        codes_per_phone_prefix=take("CODES_PER_PHONE_PREFIX", base.codes_per_phone_prefix, _CAP, _CAP_RULE),
        password_min_length=take(
            "PASSWORD_MIN_LENGTH", base.password_min_length, _number(1, MAX_LENGTH), f"between 1 and {MAX_LENGTH}"
        ),
        password_needs=take(
            "PASSWORD_NEEDS", base.password_needs, _password_needs, f"none, or some of {', '.join(PASSWORD_NEEDS)}"
        ),
        password_tries=take("PASSWORD_TRIES", base.password_tries, _number(1, 100), "between 1 and 100"),
        password_locked_for=take("PASSWORD_LOCKED_FOR", base.password_locked_for, _span(_SECOND, _DAY), _DURATION),
        unique_emails=take("UNIQUE_EMAILS", base.unique_emails, _truth, "true or false"),
        phone_countries=take("PHONE_COUNTRIES", (), _regions, "two-letter regions such as CH, separated by commas"),
        default_phone_region=take("DEFAULT_PHONE_REGION", None, _region, "a two-letter region such as CH"),
        url_template_hosts=take("URL_TEMPLATE_HOSTS", (), _hosts, "host names, separated by commas"),
        trusted_proxies=take("TRUSTED_PROXIES", (), _networks, "addresses or networks, separated by commas"),
        pages_per_peer=take("PAGES_PER_PEER", base.pages_per_peer, _CAP, _CAP_RULE),
        pages_per_user=take("PAGES_PER_USER", base.pages_per_user, _CAP, _CAP_RULE),
        token_failures_per_peer=take("TOKEN_FAILURES_PER_PEER", base.token_failures_per_peer, _CAP, _CAP_RULE),
        oidc_issuers=take("OIDC_ISSUERS", (), reader.issuers, "a file of issuers"),
        oidc_keys_ttl=take("OIDC_KEYS_TTL", base.oidc_keys_ttl, _span(60 * _SECOND, 30 * _DAY), "between 1m and 30d"),
        allow_private_addresses=take("ALLOW_PRIVATE_ADDRESSES", None, _truth, "true or false"),
        worker=take("WORKER", base.worker, _truth, "true or false"),
        log_level=take(
            "LOG_LEVEL", base.log_level, _choice("DEBUG", "INFO", "WARNING", "ERROR"), "DEBUG, INFO, WARNING or ERROR"
        ),
    )
    if not settings.embedded and not settings.secret_keys:
        reader.problems.append(f"{PREFIX}SECRET_KEY is required with {PREFIX}MONGODB_URI.")
    if settings.grpc_port == settings.port:
        reader.problems.append(f"{PREFIX}GRPC_PORT must not be {PREFIX}PORT.")
    if reader.problems:
        raise SettingsError(reader.problems)
    return settings
