"""Settings: which database, how to reach a provider, what is configured of pacing. Knows nothing of what it is for.

Keys live in the environment only. Here they are wrapped so that no repr, message or log shows one.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pgvmig.errors import ConfigError

CONFIG_FILE = "pgvmig.toml"
OPENAI_URL = "https://api.openai.com/v1"
_PACING = "PGVMIG_PACING_"

_POSTGRES = re.compile(r"postgres(?:ql)?(?:\+\w+)?://", re.IGNORECASE)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
# Upper case only: whoever pastes a key here by mistake must not find it in an error.
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


def dsn(given: str | None = None, environ: Mapping[str, str] = os.environ) -> str:
    """Return the database to use as libpq reads it: `given` (--dsn), else PGVMIG_DSN, else DATABASE_URL.

    SQLAlchemy's `postgresql+driver://` is taken as well. Raises ConfigError, which never shows the string: it may
    hold a password.
    """
    if given is not None and not given.strip():
        raise ConfigError(
            "--dsn is empty",
            hazard="DATABASE_URL, which would be next, may be another database than you mean",
            next_step="give the connection string, or leave --dsn out",
        )
    for source, text in (
        ("--dsn", given),
        ("PGVMIG_DSN", environ.get("PGVMIG_DSN")),
        ("DATABASE_URL", environ.get("DATABASE_URL")),
    ):
        if text and text.strip():
            return _libpq(text.strip(), source)
    raise ConfigError(
        "no database is named",
        next_step="pass --dsn postgresql://user@host:5432/database, or export PGVMIG_DSN or DATABASE_URL",
    )


class Secret:
    """A text that is only shown to those who call `reveal()`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text. Only for the request that needs it."""
        return self._text

    def hide_in(self, message: str) -> str:
        """Return the message without the text, should somebody have echoed it."""
        return message.replace(self._text, "***")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "***"


def _setting(doc: str, default: Any, **limits: Any) -> Any:
    return field(default=default, metadata={"doc": doc, **limits})


@dataclass(frozen=True, kw_only=True)
class ProviderSettings:
    """How to reach a provider and how hard to try. Defaults, limits and their documentation stand here only."""

    name: str
    base_url: str = _setting("where its OpenAI-compatible API is", OPENAI_URL)
    api_key: Secret | None = field(default=None, repr=False)
    api_key_env: str | None = _setting("the environment variable that holds its key", None)
    # Many servers take 32 to 100 texts a request, the vendor 2,048; a batch that is too large is halved by itself.
    batch_size: int = _setting("texts in one request, at most", 64, least=1)
    concurrency: int = _setting("requests in flight at once, at most", 4, least=1)
    timeout: float = _setting("seconds to wait for one answer", 60.0, least=0.001)
    max_retry_time: float = _setting("seconds to go on retrying one request (429, 5xx, timeouts, no connection)", 120.0)
    answer_attempts: int = _setting("times to ask when the answer cannot be trusted", 3, least=1)
    # bfloat16 rounds by up to 0.4 %, eight bits by about as much; a vector that was cut short and not brought back
    # to unit length is usually off by several per cent.
    norm_tolerance: float = _setting("how far a vector's length may be from 1, when the contract says normalized", 0.01)
    # Many compatible servers refuse the parameter or cut the vector without a word.
    send_dimensions: bool = _setting("ask the provider for the contract's dimensions", False)
    encoding_format: str = _setting("how vectors travel", "base64", choices=("base64", "float"))
    # User and password that stood in base_url, `user:password`; kept apart because URLs end up in logs.
    userinfo: Secret | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        for setting in documented_settings():
            _check_value(f"provider {self.name!r}: {setting.name}", setting, getattr(self, setting.name))
        _check_variable(self.name, self.api_key_env)
        _check_key(self.name, self.api_key)
        bare, userinfo = _check_url(self.name, self.base_url)
        if userinfo and self.api_key:
            raise ConfigError(
                f"provider {self.name!r} has a key and a user in its base_url",
                hazard="A request has one Authorization header, and the wrong secret could be sent",
                next_step="keep one of the two",
            )
        object.__setattr__(self, "base_url", bare)
        object.__setattr__(self, "userinfo", Secret(userinfo) if userinfo else None)

    def without_secrets(self, message: str) -> str:
        """Return the message with every secret of this provider taken out."""
        for secret in (self.api_key, self.userinfo):
            if secret:
                message = secret.hide_in(message)
        return message


def documented_settings() -> Iterator[Field[Any]]:
    """Return the settings that pgvmig.toml may hold, each with its `default` and `metadata["doc"]`."""
    return (setting for setting in fields(ProviderSettings) if "doc" in setting.metadata)


def provider(name: str, path: Path | None = None, environ: Mapping[str, str] = os.environ) -> ProviderSettings:
    """Return a provider's settings, from its table in pgvmig.toml and from the environment, and its key.

    The file is `path`, else PGVMIG_CONFIG, else pgvmig.toml in the current folder where there is one. Raises
    ConfigError.
    """
    sections = _sections(path, environ)
    given = sections.get(name, {})
    prefix = variable_prefix(name)
    base_url = given.get("base_url") or environ.get(f"{prefix}_BASE_URL") or _default_url(name, environ)
    if not base_url:
        there = f" (there are {', '.join(sorted(sections))})" if sections else ""
        raise ConfigError(
            f"provider {name!r} has no base_url{there}",
            hazard="Without one your texts would go to somebody else's API",
            next_step=f"add [providers.{_toml_key(name)}] with base_url to {CONFIG_FILE}, or export {prefix}_BASE_URL",
            provider=name,
        )
    key = _key(name, given.get("api_key_env"), base_url, environ)
    return ProviderSettings(name=name, api_key=key, **(given | {"base_url": base_url}))


def pacing(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> dict[str, tuple[str, Any]]:
    """Return the limits that are configured: by name, where each comes from and its value as written there.

    They stand in `[pacing]` of pgvmig.toml, found as for `provider`, and in PGVMIG_PACING_<NAME>, which wins. What the
    names and values mean is not known here. Raises ConfigError.
    """
    file, content = _content(path, environ)
    section = content.get("pacing", {})
    if not isinstance(section, dict):
        raise ConfigError(f"{file}: pacing is no table", next_step="write [pacing] and its limits below")
    found: dict[str, tuple[str, Any]] = {name: (f"{file}: {name}", value) for name, value in section.items()}
    for variable, text in environ.items():
        # A provider may be called "pacing".
        if variable.startswith(_PACING) and not variable.endswith(("_BASE_URL", "_API_KEY")) and text.strip():
            found[variable.removeprefix(_PACING).lower()] = variable, text.strip()
    return found


def variable_prefix(name: str) -> str:
    """Return how the environment variables of a provider begin: `PGVMIG_MY_MODEL` for `my-model`."""
    return "PGVMIG_" + re.sub(r"[^A-Z0-9]", "_", name.upper())


def key_variables(name: str) -> tuple[str, ...]:
    """Return the variables that a provider's key is looked for in, unless api_key_env names another."""
    own = f"{variable_prefix(name)}_API_KEY"
    return (own, "OPENAI_API_KEY") if name == "openai" else (own,)


def _libpq(text: str, source: str) -> str:
    if match := _POSTGRES.match(text):
        text = f"postgresql://{text[match.end() :]}"
    elif other := _SCHEME.match(text):
        raise ConfigError(f"{source} names a {other[1]} database", next_step="give one of PostgreSQL, postgresql://…")
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        port = str(conninfo_to_dict(text).get("port", ""))
        # Of user:pass/word@host libpq makes a host, a port and a database, and complains of the port when it connects.
        readable = re.fullmatch(r"[\d,]*", port) is not None
    except psycopg.Error:
        readable = False
    if not readable:
        # Not even as the cause: libpq quotes the part that it stumbled over, which may be the password.
        raise ConfigError(
            f"{source} is not a connection string that libpq reads",
            next_step="write postgresql://user@host:5432/database or 'host=… dbname=…'; in a URL @ : / ? of a password "
            "are %40 %3A %2F %3F, and parameters after ? are libpq's",
        )
    return text


def _default_url(name: str, environ: Mapping[str, str]) -> str | None:
    return (environ.get("OPENAI_BASE_URL") or OPENAI_URL) if name == "openai" else None


def _key(name: str, variable: str | None, base_url: str, environ: Mapping[str, str]) -> Secret | None:
    if variable is not None:
        _check_variable(name, variable)
    variables = (variable,) if variable else key_variables(name)
    for candidate in variables:
        if text := environ.get(candidate, "").strip():
            return Secret(text)
    # A server of one's own may well ask for no key; the vendor does, and so does whoever has a variable for it.
    if variable or base_url.startswith(OPENAI_URL):
        raise ConfigError(
            f"provider {name!r} has no key: {' and '.join(variables)} {'are' if len(variables) > 1 else 'is'} not set",
            next_step=f"export {variables[0]}",
            provider=name,
        )
    return None


def _sections(path: Path | None, environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the checked tables `[providers.NAME]` by name."""
    file, content = _content(path, environ)
    sections = content.get("providers", {})
    if not isinstance(sections, dict):
        raise ConfigError(f"{file}: providers is no table", next_step="write [providers.NAME]")
    for name, section in sections.items():
        _check_section(f"{file}: [providers.{_toml_key(name)}]", name, section)
    return sections


def _content(path: Path | None, environ: Mapping[str, str]) -> tuple[Path, dict[str, Any]]:
    """Return the file and what is in it, nothing when none is named and none is there."""
    named = path or (Path(environ["PGVMIG_CONFIG"]) if environ.get("PGVMIG_CONFIG") else None)
    file = named or Path(CONFIG_FILE)
    if named is None and not file.exists():
        return file, {}
    content = _read(file)
    _refuse_unknown(str(file), content, ("providers", "pacing"))
    return file, content


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}", next_step="check the path") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise ConfigError(f"{file} is no TOML: {error}", next_step="correct it at the place named") from error


def _check_section(where: str, name: str, section: Any) -> None:
    if not isinstance(section, dict):
        raise ConfigError(f"{where} is no table", next_step="write [providers.NAME] and its settings below")
    if "api_key" in section:
        raise ConfigError(
            f"{where} holds an api_key",
            hazard="The file is committed, copied and backed up, and whoever reads it can spend on the account",
            next_step=f"revoke the key if others have seen it, export the new one as {key_variables(name)[0]}, or name "
            "a variable of your own with api_key_env",
        )
    settings = {setting.name: setting for setting in documented_settings()}
    _refuse_unknown(where, section, tuple(settings))
    for key, value in section.items():
        _check_value(f"{where} {key}", settings[key], value)
    if section.get("base_url") and _check_url(name, section["base_url"])[1]:
        raise ConfigError(
            f"{where} base_url holds a user or a password",
            hazard="The file is committed, copied and backed up",
            next_step=f"take it out and export the whole URL as {variable_prefix(name)}_BASE_URL",
        )


def _refuse_unknown(where: str, given: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
    unknown = sorted(set(given) - set(allowed))
    if unknown:
        raise ConfigError(
            f"{where} has no setting {unknown[0]!r}",
            hazard="A misspelt setting would silently leave its default in force",
            next_step=f"use {'one of ' if len(allowed) > 1 else ''}{', '.join(allowed)}",
            key=unknown[0],
        )


_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}


def _check_value(where: str, setting: Field[Any], value: Any) -> None:
    """Check type and limits. The value itself is shown only where it is a number: a text may be a secret."""
    wanted, _, optional = str(setting.type).partition(" | ")
    if optional and value is None:
        return
    if type(value) not in _TYPES[wanted]:
        raise ConfigError(f"{where} is of type {type(value).__name__}", next_step=f"give a value of type {wanted}")
    least = setting.metadata.get("least", 0)
    if wanted in ("int", "float") and not (math.isfinite(value) and value >= least):
        raise ConfigError(f"{where} is {value}", next_step=f"give a number from {least} up")
    choices = setting.metadata.get("choices")
    if choices and value not in choices:
        raise ConfigError(f"{where} is something else than {' or '.join(choices)}", next_step=f"use {choices[0]}")


def _check_variable(name: str, variable: str | None) -> None:
    if variable is not None and not _VARIABLE.fullmatch(variable):
        raise ConfigError(
            f"provider {name!r}: api_key_env is not the name of an environment variable",
            hazard="It names the variable that holds the key, it is not the key",
            next_step=f"use upper-case letters, digits and _, such as {key_variables(name)[0]}",
        )


def _check_key(name: str, key: Secret | None) -> None:
    # HTTP libraries quote a header that they cannot send, the key with it.
    if key and not re.fullmatch(r"[!-~]+", key.reveal()):
        raise ConfigError(
            f"the key of provider {name!r} holds white space or characters that no HTTP header can carry",
            next_step="copy it again, without quotes and line breaks",
        )


def _check_url(name: str, url: str) -> tuple[str, str]:
    """Return the URL without user and password, and these."""
    try:
        parts = urlsplit(url.strip())
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is none, half an IPv6 address
        usable = False
    if not usable:
        raise ConfigError(
            f"provider {name!r}: base_url is no http(s) URL", next_step="write it like https://host:8080/v1"
        )
    if parts.query or parts.fragment:
        raise ConfigError(
            f"provider {name!r}: base_url has something after ? or #",
            hazard="Parameters there are often keys, and HTTP libraries log URLs",
            next_step="end it with the path, such as /v1, and put the key into the environment",
        )
    userinfo, _, host = parts.netloc.rpartition("@")
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", "")), userinfo


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f'"{name}"'
