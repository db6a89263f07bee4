import json
import os
import re
import tomllib
from pathlib import Path

import pytest
from pydantic import SecretStr

from hoverboard.config import ENV_PREFIX, Settings
from hoverboard.errors import ConfigError

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without a hoverboard.toml, and an environment without settings."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.upper().startswith(ENV_PREFIX)]:
        monkeypatch.delenv(name)
    return tmp_path


def test_defaults_serve_on_loopback() -> None:
    settings = Settings.load()
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert (settings.admin_host, settings.admin_port) == ("127.0.0.1", 8081)


def test_environment_wins_over_the_file(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "hoverboard.toml").write_text("port = 1001\nmax_batch = 32\n")
    monkeypatch.setenv("HOVERBOARD_PORT", "1002")
    settings = Settings.load()
    assert (settings.port, settings.max_batch) == (1002, 32)


def test_a_flag_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOVERBOARD_PORT", "1002")
    assert Settings.load(port=1003).port == 1003


def test_a_flag_that_was_not_given_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOVERBOARD_PORT", "1002")
    assert Settings.load(port=None).port == 1002


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_can_be_set_by_environment_and_by_file(
    name: str,
    elsewhere: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = _other(name)
    with monkeypatch.context() as patched:
        patched.setenv(f"{ENV_PREFIX}{name.upper()}", str(other))
        assert _plain(getattr(Settings.load(), name)) == other
    literal = json.dumps(other)
    (elsewhere / "hoverboard.toml").write_text(f"{name} = {literal}\n")
    assert _plain(getattr(Settings.load(), name)) == other


def _plain(value: object) -> object:
    """A setting's value as it is written down."""
    if isinstance(value, Path):
        return str(value)
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _other(name: str) -> object:
    """A valid value that is not the default."""
    default = Settings.model_fields[name].default
    choices = {"xla": "off", "log_level": "debug", "log_format": "json", "host": "0.0.0.0", "admin_host": "::1"}
    choices |= {"recording": "off", "allowed_hosts": "models.test"}
    if name in choices:
        return choices[name]
    if isinstance(default, Path):
        return "elsewhere"
    if isinstance(default, SecretStr):
        return "postgresql://somewhere/else"
    if isinstance(default, bool):
        return not default
    return default + 1


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_is_documented_in_its_docstring_and_in_the_example_file(name: str) -> None:
    text = Settings.model_fields[name].description
    assert text
    assert text.endswith(".")
    example = (ROOT / "hoverboard.example.toml").read_text()
    commented = " ".join(line.removeprefix("#").strip() for line in example.splitlines())
    assert " ".join(text.split()) in commented


def test_the_example_file_holds_every_default_and_nothing_else() -> None:
    example = (ROOT / "hoverboard.example.toml").read_text()
    assert tomllib.loads(example) == {}, "every setting in it must be commented out"
    values = tomllib.loads("\n".join(re.findall(r"^#(\w+ = .*)$", example, re.MULTILINE)))
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    assert values == {name: _plain(value) for name, value in defaults.items()}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", -1),
        ("port", 65536),
        ("host", ""),
        ("api_workers", 0),
        ("max_batch", 0),
        ("scan_interval_s", 0),
        ("xla", "on"),
        ("log_level", "loud"),
        ("max_queue_ms", 0),
    ],
)
def test_a_value_out_of_range_names_the_flag(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^{name} \(flag --{name.replace('_', '-')}\): .*got {value!r}$"):
        Settings.load(**{name: value})


def test_a_database_url_is_never_shown_nor_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOVERBOARD_DATABASE_URL", "postgresql://me:hidden@db/records")
    settings = Settings.load()
    assert settings.database_url.get_secret_value() == "postgresql://me:hidden@db/records"
    assert "hidden" not in repr(settings)
    assert "hidden" not in settings.to_runtime(tmp_path).read_text()
    monkeypatch.setenv("HOVERBOARD_DATABASE_URL", "mysql://me:hidden@db/records")
    with pytest.raises(ConfigError, match=r"^database_url \(environment HOVERBOARD_DATABASE_URL\)") as refused:
        Settings.load()
    assert "hidden" not in str(refused.value)


def test_a_bad_value_in_the_environment_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOVERBOARD_API_WORKERS", "many")
    with pytest.raises(ConfigError, match=r"^api_workers \(environment HOVERBOARD_API_WORKERS\): .*got 'many'$"):
        Settings.load()


@pytest.mark.parametrize(
    ("variable", "sentence"),
    [
        (
            "HOVERBOARD_API_WORKER",
            "environment HOVERBOARD_API_WORKER is no setting; did you mean HOVERBOARD_API_WORKERS?",
        ),
        ("hoverboard_prot", "environment hoverboard_prot is no setting; did you mean HOVERBOARD_PORT?"),
        ("HOVERBOARD_DEBUGG", "environment HOVERBOARD_DEBUGG is no setting; did you mean HOVERBOARD_DEBUG?"),
        ("HOVERBOARD_COLOUR", "environment HOVERBOARD_COLOUR is no setting"),
        ("HOVERBOARD_", "environment HOVERBOARD_ is no setting"),
    ],
)
def test_a_misspelt_variable_is_refused_with_a_suggestion(
    variable: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "2")
    with pytest.raises(ConfigError) as refused:
        Settings.load()
    assert str(refused.value) == sentence


def test_a_misspelt_variable_is_named_beside_what_else_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOVERBOARD_PROT", "2")
    monkeypatch.setenv("HOVERBOARD_API_WORKERS", "many")
    with pytest.raises(ConfigError) as refused:
        Settings.load()
    first, second = str(refused.value).splitlines()
    assert first.startswith("api_workers (environment HOVERBOARD_API_WORKERS)")
    assert second.startswith("environment HOVERBOARD_PROT is no setting")


@pytest.mark.parametrize(
    "variable",
    [
        "hoverboard_port",
        "HOVERBOARD_DEBUG",
        "HOVERBOARD_SERVICE_HOST",
        "HOVERBOARD_SERVICE_PORT_ADMIN",
        "HOVERBOARD_PORT_8080_TCP",
        "HOVERBOARD_PORT_8080_TCP_ADDR",
        "HOVERBOARDING",
    ],
)
def test_variables_that_are_ours_or_another_programs_are_no_mistake(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    Settings.load()


def test_a_bad_value_in_the_file_names_the_file(elsewhere: Path) -> None:
    (elsewhere / "hoverboard.toml").write_text('port = "http"\n')
    with pytest.raises(ConfigError, match=r"^port \(hoverboard\.toml\): "):
        Settings.load()


def test_a_misspelt_setting_in_the_file_is_refused_with_a_suggestion(elsewhere: Path) -> None:
    (elsewhere / "hoverboard.toml").write_text("api_worker = 2\n")
    with pytest.raises(
        ConfigError, match=r"^api_worker \(hoverboard\.toml\) is no setting; did you mean api_workers\?$"
    ):
        Settings.load()


def test_a_file_that_is_no_toml_is_named(elsewhere: Path) -> None:
    (elsewhere / "hoverboard.toml").write_text("port 8080\n")
    with pytest.raises(ConfigError, match=r"^hoverboard\.toml is no valid TOML: "):
        Settings.load()


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.load(port=-1, api_workers=0)
    with pytest.raises(ConfigError, match=r"^max_bach \(an argument of f\) is no setting; did you mean max_batch\?$"):
        Settings.load("an argument of f", max_bach=1)
    assert [line.split()[0] for line in str(caught.value).splitlines()] == ["port", "api_workers"]


def test_the_default_deadline_may_not_exceed_the_longest() -> None:
    with pytest.raises(ConfigError, match="default_deadline_ms"):
        Settings.load(default_deadline_ms=2000, max_deadline_ms=1000)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.load().port = 1  # type: ignore[misc]


def test_children_read_exactly_what_the_supervisor_wrote(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings.load(port=4711, models=tmp_path / "models", data_dir=tmp_path / "data", max_batch_delay_ms=1.5)
    settings.to_runtime(tmp_path)
    monkeypatch.setenv("HOVERBOARD_PORT", "1")
    (tmp_path / "hoverboard.toml").write_text("nonsense = 1\n")
    assert Settings.from_runtime(tmp_path) == settings


def test_relative_directories_reach_the_children_as_absolute_ones(tmp_path: Path) -> None:
    Settings.load().to_runtime(tmp_path)
    assert Settings.from_runtime(tmp_path).models == tmp_path / "models"


def test_a_runtime_directory_without_settings_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path / "settings.json"))):
        Settings.from_runtime(tmp_path)
