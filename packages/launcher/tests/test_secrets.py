"""Secrets are made once, for their owner alone, and the environment beats them."""

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from launcher.secrets import load_secrets


def test_they_are_made_once_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    first = load_secrets(tmp_path, {})
    assert load_secrets(tmp_path, {}) == first
    assert (tmp_path / "secrets.env").stat().st_mode & 0o777 == 0o600
    assert first.api_key.startswith("sb-")
    assert [each.name for each in tmp_path.iterdir()] == ["secrets.env"]


def test_of_many_that_make_them_at_once_all_get_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda _: load_secrets(tmp_path / "data", {}), range(64)))
    assert all(each == made[0] for each in made)


def test_the_environment_beats_them_and_is_not_written_down(tmp_path: Path) -> None:
    secrets = load_secrets(tmp_path, {"API_KEY": "mine, old"})
    assert secrets.api_key == "mine"
    assert secrets.given == {"API_KEY"}
    assert "mine" not in (tmp_path / "secrets.env").read_text()


def test_one_that_is_missing_is_added_and_the_others_stay(tmp_path: Path) -> None:
    first = load_secrets(tmp_path, {})
    path = tmp_path / "secrets.env"
    path.write_text(f"API_KEY={first.api_key}\n")
    path.chmod(0o644)
    second = load_secrets(tmp_path, {})
    assert second.api_key == first.api_key
    assert second.jwt_secret != first.jwt_secret
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_master_key_is_an_id_and_32_bytes_and_the_first_worker_token_is_shown(tmp_path: Path) -> None:
    secrets = load_secrets(tmp_path, {"WORKER_TOKEN": "new, old"})
    master_id, _, key = secrets.values["MASTER_KEYS"].partition(":")
    assert master_id
    assert len(base64.b64decode(key, validate=True)) == 32
    assert secrets.worker_token == "new"
    assert load_secrets(tmp_path, {}).values["MASTER_KEYS"] == secrets.values["MASTER_KEYS"]
