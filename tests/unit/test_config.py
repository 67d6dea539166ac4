"""Which database and which provider: order of places, what is refused, and that no secret is ever shown."""

import dataclasses
import pickle

import pytest
from psycopg.conninfo import conninfo_to_dict

from pgvmig.config import (
    OPENAI_URL,
    ProviderSettings,
    Secret,
    documented_settings,
    dsn,
    key_variables,
    provider,
    variable_prefix,
)
from pgvmig.errors import ConfigError

KEY = "sk-very-secret-1234567890"


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def toml(tmp_path):
    """Write pgvmig.toml into the current folder."""

    def write(text, name="pgvmig.toml"):
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        return file

    return write


def shown(error):
    """What a program or a log could show of an error and of those behind it."""
    texts, current = [], error.value
    while current is not None:
        texts += [str(current), repr(current), repr(vars(current))]
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n".join(texts)


# DSN


@pytest.mark.parametrize(
    ("given", "environ", "expected"),
    [
        ("host=a", {"PGVMIG_DSN": "host=b", "DATABASE_URL": "host=c"}, "host=a"),
        (None, {"PGVMIG_DSN": "host=b", "DATABASE_URL": "host=c"}, "host=b"),
        (None, {"PGVMIG_DSN": " ", "DATABASE_URL": " host=c\n"}, "host=c"),
    ],
)
def test_the_option_comes_before_our_variable_before_the_common_one(given, environ, expected):
    assert dsn(given, environ) == expected


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@h:5433/d?sslmode=require",
        "postgres://u:p@h:5433/d?sslmode=require",
        "postgresql+psycopg://u:p@h:5433/d?sslmode=require",
        "postgresql+psycopg2://u:p@h:5433/d?sslmode=require",
        "postgresql+asyncpg://u:p@h:5433/d?sslmode=require",
        "PostgreSQL+Psycopg://u:p@h:5433/d?sslmode=require",
    ],
)
def test_urls_of_sqlalchemy_become_libpq_urls(url):
    assert conninfo_to_dict(dsn(url, {})) == {
        "user": "u",
        "password": "p",
        "host": "h",
        "port": "5433",
        "dbname": "d",
        "sslmode": "require",
    }


def test_a_socket_folder_in_a_url_survives():
    assert conninfo_to_dict(dsn("postgresql+psycopg://me@/d?host=/run/pg", {}))["host"] == "/run/pg"


def test_no_database_says_where_to_name_one():
    with pytest.raises(ConfigError) as error:
        dsn(None, {})
    assert str(error.value) == (
        "no database is named. Next: pass --dsn postgresql://user@host:5432/database, or export PGVMIG_DSN or "
        "DATABASE_URL"
    )


def test_an_empty_option_does_not_fall_through_to_another_database():
    with pytest.raises(ConfigError, match="--dsn is empty"):
        dsn("", {"DATABASE_URL": "host=production"})


def test_another_database_system_is_named():
    with pytest.raises(ConfigError, match="DATABASE_URL names a mysql database"):
        dsn(None, {"DATABASE_URL": "mysql://root:hunter2@h/d"})


@pytest.mark.parametrize(
    "text", ["hunter2", "host=h password=a hunter2", "postgresql://u:hunter2/x@h/d", "postgresql://h/d?hunter2=1"]
)
def test_a_malformed_dsn_is_not_quoted_it_may_hold_a_password(text):
    with pytest.raises(ConfigError, match="is not a connection string that libpq reads") as error:
        dsn(text, {})
    assert "hunter2" not in shown(error)


# Providers


def test_openai_needs_nothing_but_its_own_variables():
    settings = provider("openai", environ={"OPENAI_API_KEY": KEY})
    assert (settings.base_url, settings.api_key.reveal()) == (OPENAI_URL, KEY)
    settings = provider("openai", environ={"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "http://gateway/v1/"})
    assert settings.base_url == "http://gateway/v1"


def test_our_variables_for_openai_come_before_its_own():
    environ = {
        "OPENAI_API_KEY": "other",
        "OPENAI_BASE_URL": "http://other/v1",
        "PGVMIG_OPENAI_API_KEY": KEY,
        "PGVMIG_OPENAI_BASE_URL": "http://mine/v1",
    }
    settings = provider("openai", environ=environ)
    assert (settings.base_url, settings.api_key.reveal()) == ("http://mine/v1", KEY)


def test_a_provider_from_the_environment_alone():
    environ = {"PGVMIG_MY_MODEL_2_BASE_URL": "http://127.0.0.1:8080/v1", "PGVMIG_MY_MODEL_2_API_KEY": KEY}
    settings = provider("my-model.2", environ=environ)
    assert settings == ProviderSettings(
        name="my-model.2", base_url="http://127.0.0.1:8080/v1", api_key=Secret(KEY), api_key_env=None
    )
    assert variable_prefix("my-model.2") == "PGVMIG_MY_MODEL_2"


def test_the_key_of_openai_is_not_taken_to_other_providers():
    environ = {"PGVMIG_LOCAL_BASE_URL": "http://h/v1", "OPENAI_API_KEY": KEY}
    assert provider("local", environ=environ).api_key is None


def test_the_file_comes_before_the_environment(toml):
    toml("""
        [providers.local]
        base_url = "http://file:1/v1"
        api_key_env = "MY_KEY"
        batch_size = 7
        concurrency = 2
        timeout = 5
        max_retry_time = 0.5
        answer_attempts = 1
        norm_tolerance = 1e-3
        send_dimensions = true
        encoding_format = "float"
    """)
    environ = {"PGVMIG_LOCAL_BASE_URL": "http://variable/v1", "PGVMIG_LOCAL_API_KEY": "no", "MY_KEY": KEY}
    assert provider("local", environ=environ) == ProviderSettings(
        name="local",
        base_url="http://file:1/v1",
        api_key=Secret(KEY),
        api_key_env="MY_KEY",
        batch_size=7,
        concurrency=2,
        timeout=5,
        max_retry_time=0.5,
        answer_attempts=1,
        norm_tolerance=1e-3,
        send_dimensions=True,
        encoding_format="float",
    )


def test_a_section_without_base_url_takes_it_from_the_environment(toml):
    toml("[providers.local]\nbatch_size = 7")
    settings = provider("local", environ={"PGVMIG_LOCAL_BASE_URL": "http://h/v1"})
    assert (settings.base_url, settings.batch_size) == ("http://h/v1", 7)


def test_the_file_can_be_named(toml, tmp_path):
    toml('[providers.local]\nbase_url = "http://here/v1"')
    other = toml('[providers.local]\nbase_url = "http://there/v1"', name="other.toml")
    third = toml('[providers.local]\nbase_url = "http://third/v1"', name="third.toml")
    assert provider("local", environ={}).base_url == "http://here/v1"
    assert provider("local", environ={"PGVMIG_CONFIG": str(other)}).base_url == "http://there/v1"
    assert provider("local", third, {"PGVMIG_CONFIG": str(other)}).base_url == "http://third/v1"
    with pytest.raises(ConfigError, match=r"missing\.toml cannot be read"):
        provider("local", tmp_path / "missing.toml", {})
    with pytest.raises(ConfigError, match=r"missing\.toml cannot be read"):
        provider("local", environ={"PGVMIG_CONFIG": "missing.toml"})


def test_an_unknown_provider_says_both_ways_to_name_it(toml):
    toml('[providers.minilm]\nbase_url = "http://h/v1"\n[providers.wordllama]\nbase_url = "http://h/v1"')
    with pytest.raises(ConfigError) as error:
        provider("minlm", environ={"OPENAI_API_KEY": KEY})
    assert str(error.value) == (
        "provider 'minlm' has no base_url (there are minilm, wordllama). Without one your texts would go to somebody "
        "else's API. Next: add [providers.minlm] with base_url to pgvmig.toml, or export PGVMIG_MINLM_BASE_URL"
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[provider.x]", "has no setting 'provider'"),
        ("providers = 1", "providers is no table"),
        ("[providers]\nx = 1", "[providers.x] is no table"),
        ("[providers.x]\nbatchsize = 1", "[providers.x] has no setting 'batchsize'"),
        ("[providers.x]\nname = 'y'", "[providers.x] has no setting 'name'"),
        ("[providers.x]\nuserinfo = 'y'", "[providers.x] has no setting 'userinfo'"),
        ("[providers.x]\nbatch_size = '1'", "batch_size is of type str. Next: give a value of type int"),
        ("[providers.x]\nbatch_size = 1.5", "batch_size is of type float"),
        ("[providers.x]\nbatch_size = true", "batch_size is of type bool"),
        ("[providers.x]\nbatch_size = 0", "batch_size is 0. Next: give a number from 1 up"),
        ("[providers.x]\ntimeout = nan", "timeout is nan"),
        ("[providers.x]\ntimeout = inf", "timeout is inf"),
        ("[providers.x]\nmax_retry_time = -1", "max_retry_time is -1"),
        ("[providers.x]\nsend_dimensions = 1", "send_dimensions is of type int"),
        ("[providers.x]\nencoding_format = 'hex'", "encoding_format is something else than base64 or float"),
        ("[providers.x]\nbase_url = 'h/v1'", "base_url is no http(s) URL"),
        ("[providers.x]\nbase_url = 'http://h:port/v1'", "base_url is no http(s) URL"),
        ("[providers.x]\nbase_url = 'http://h/v1?api-key=sk-very-secret'", "base_url has something after ? or #"),
        ("[providers.x]\nbase_url = 'http://u:sk-very-secret@h/v1'", "base_url holds a user or a password"),
        ("[providers.x]\napi_key_env = 'sk-very-secret'", "api_key_env is not the name of an environment variable"),
        ("[providers.x]\napi_key_env = 'verysecret'", "api_key_env is not the name of an environment variable"),
        ("[providers.other]\nbase_url = 'http://h'\nbatch_size = 0", "[providers.other] batch_size is 0"),
        ("[providers.x", "is no TOML"),
    ],
)
def test_what_the_file_may_not_say(toml, text, found):
    toml(text)
    with pytest.raises(ConfigError) as error:
        provider("x", environ={"PGVMIG_X_BASE_URL": "http://h/v1"})
    assert found in str(error.value)
    assert "secret" not in shown(error)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "pgvmig.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is no TOML"):
        provider("x", environ={})


def test_the_allowed_settings_are_named(toml):
    toml("[providers.x]\nbatchsize = 1")
    with pytest.raises(ConfigError) as error:
        provider("x", environ={})
    assert error.value.next_step == (
        "use one of base_url, api_key_env, batch_size, concurrency, timeout, max_retry_time, answer_attempts, "
        "norm_tolerance, send_dimensions, encoding_format"
    )


def test_a_key_in_the_file_is_refused_with_the_reason(toml):
    toml(f'[providers.other]\nbase_url = "http://h/v1"\napi_key = "{KEY}"')
    with pytest.raises(ConfigError) as error:
        provider("x", environ={"PGVMIG_X_BASE_URL": "http://h/v1"})
    assert str(error.value) == (
        "pgvmig.toml: [providers.other] holds an api_key. The file is committed, copied and backed up, and whoever "
        "reads it can spend on the account. Next: revoke the key if others have seen it, export the new one as "
        "PGVMIG_OTHER_API_KEY, or name a variable of your own with api_key_env"
    )
    assert KEY not in shown(error)


@pytest.mark.parametrize(
    ("text", "environ", "found"),
    [
        ("", {}, "provider 'openai' has no key: PGVMIG_OPENAI_API_KEY and OPENAI_API_KEY are not set"),
        ("", {"OPENAI_API_KEY": " "}, "are not set. Next: export PGVMIG_OPENAI_API_KEY"),
        ("[providers.openai]\napi_key_env = 'MINE'", {"OPENAI_API_KEY": KEY}, "has no key: MINE is not set"),
        (
            "[providers.openai]\nbase_url = 'http://h/v1'\napi_key_env = 'MINE'",
            {"OPENAI_API_KEY": KEY},
            "has no key: MINE is not set",
        ),
    ],
)
def test_a_missing_key_is_found_before_the_first_request(toml, text, environ, found):
    toml(text)
    with pytest.raises(ConfigError) as error:
        provider("openai", environ=environ)
    assert found in str(error.value)


def test_a_server_of_ones_own_needs_no_key():
    assert provider("openai", environ={"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}).api_key is None


def test_a_key_is_never_shown():
    settings = provider("openai", environ={"OPENAI_API_KEY": KEY})
    texts = [
        repr(settings),
        str(settings),
        repr(settings.api_key),
        f"{settings.api_key}",
        repr(dataclasses.asdict(settings)),
        repr(vars(settings)),
        settings.without_secrets(f"Incorrect API key provided: {KEY}."),
    ]
    assert [text for text in texts if KEY in text] == []
    assert pickle.loads(pickle.dumps(settings.api_key)).reveal() == KEY


def test_user_and_password_of_a_url_are_kept_apart():
    settings = provider("x", environ={"PGVMIG_X_BASE_URL": "https://me:hunter2@h:8443/v1/"})
    assert settings.base_url == "https://h:8443/v1"
    assert settings.userinfo.reveal() == "me:hunter2"
    assert "hunter2" not in repr(settings)


def test_user_and_key_together_are_refused():
    with pytest.raises(ConfigError, match="a key and a user in its base_url") as error:
        provider("x", environ={"PGVMIG_X_BASE_URL": "https://me:hunter2@h/v1", "PGVMIG_X_API_KEY": KEY})
    assert "hunter2" not in shown(error)
    assert KEY not in shown(error)


@pytest.mark.parametrize("key", ["sk-a\nb", "sk a", "“sk-a”"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(key):
    with pytest.raises(ConfigError, match="no HTTP header can carry") as error:
        provider("openai", environ={"OPENAI_API_KEY": key})
    assert "sk" not in shown(error)


def test_every_setting_is_documented_and_its_default_passes_its_own_check():
    settings = list(documented_settings())
    assert [setting.name for setting in settings if not setting.metadata["doc"]] == []
    undocumented = {setting.name for setting in dataclasses.fields(ProviderSettings)} - {s.name for s in settings}
    assert undocumented == {"name", "api_key", "userinfo"}
    ProviderSettings(name="defaults")


def test_the_variables_that_are_looked_at():
    assert key_variables("openai") == ("PGVMIG_OPENAI_API_KEY", "OPENAI_API_KEY")
    assert key_variables("My Model") == ("PGVMIG_MY_MODEL_API_KEY",)
