"""The folder of keys: who is accepted, and who may read it."""

import stat

import pytest
import zmq
import zmq.auth

from tickplant import keys as keys_module
from tickplant.cli.main import cli
from tickplant.errors import ConfigError
from tickplant.keys import FEEDS, READERS, Keys, client, read


@pytest.fixture
def keys(site):
    return Keys(site.folder / "data" / "keys")


def accepted(keys, domain):
    return set(keys.accepted(domain).values())


def test_secrets_are_for_their_owner_only(keys):
    made = keys.new("one", FEEDS)
    for folder in (keys.folder, keys.folder / FEEDS):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for secret in (made, keys.folder / "server.key_secret"):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert not list(keys.folder.rglob("*.draft"))


def test_a_folder_that_was_open_is_closed(keys):
    keys.folder.mkdir(parents=True)
    keys.folder.chmod(0o755)
    keys.new("one", FEEDS)
    assert stat.S_IMODE(keys.folder.stat().st_mode) == 0o700


def test_the_files_are_certificates_of_zeromq(keys):
    made = keys.new("one", FEEDS)
    public, secret = zmq.auth.load_certificate(made)
    assert zmq.curve_public(secret) == public
    assert zmq.auth.load_certificate(made.with_suffix(".key")) == (public, None)


def test_each_name_has_a_pair_of_its_own_and_all_the_same_server(keys):
    paths = [keys.new("one", FEEDS), keys.new("two", FEEDS), keys.new("desk", READERS)]
    found = [client(p) for p in paths]
    assert len({k.public for k in found}) == 3
    assert {k.server.decode() for k in found} == {keys.server_public()}
    assert zmq.curve_public(keys.server(FEEDS).secret).decode() == keys.server_public()


def test_a_key_is_accepted_in_its_own_domain_only(keys):
    keys.new("one", FEEDS)
    keys.new("desk", READERS)
    assert accepted(keys, FEEDS) == {"one"}
    assert accepted(keys, READERS) == {"desk"}


def test_a_change_of_the_folder_is_seen(keys):
    watching = Keys(keys.folder)
    assert accepted(watching, FEEDS) == set()
    keys.new("one", FEEDS)
    assert accepted(watching, FEEDS) == {"one"}
    keys.revoke("one")
    assert accepted(watching, FEEDS) == set()


def test_a_revoked_name_may_have_a_new_key_and_the_old_one_stays_out(keys):
    old = client(keys.new("one", FEEDS)).public
    keys.revoke("one")
    assert [e.name for e in keys.entries() if e.revoked] == ["one"]
    new = client(keys.new("one", FEEDS)).public
    assert keys.accepted(FEEDS) == {new: "one"}
    assert old != new
    assert not any(e.revoked for e in keys.entries())


def test_to_revoke_takes_the_secret_away_too(keys):
    made = keys.new("one", FEEDS)
    keys.revoke("one")
    assert not made.exists()


@pytest.mark.parametrize("other", [FEEDS, READERS])
def test_a_name_is_had_once(keys, other):
    keys.new("one", FEEDS)
    with pytest.raises(ConfigError, match="keys revoke one"):
        keys.new("one", other)


@pytest.mark.parametrize("name", ["server", "", "a/b", "../server", ".x", "a" * 65, "a b", "ä"])
def test_a_name_that_could_be_another_file_is_refused(keys, name):
    keys.new("one", FEEDS)
    with pytest.raises(ConfigError):
        keys.new(name, FEEDS)
    with pytest.raises(ConfigError, match="there are: one"):
        keys.revoke(name)
    assert keys.server_public()


def test_a_file_that_is_no_key_is_nobodys_and_harms_nobody(keys):
    keys.new("one", FEEDS)
    (keys.folder / FEEDS / "bad.key").write_bytes(b"\xff nonsense")
    (keys.folder / FEEDS / "gone.key").symlink_to("nowhere")
    assert accepted(keys, FEEDS) == {"one"}


def test_without_keys_the_error_says_how_to_make_some(keys):
    with pytest.raises(ConfigError, match="tickplant keys new"):
        keys.server(FEEDS)
    with pytest.raises(ConfigError, match="tickplant keys new one --feed"):
        keys.client("one", FEEDS)


def test_a_public_file_is_not_taken_for_a_secret_one(keys):
    made = keys.new("one", FEEDS)
    with pytest.raises(ConfigError, match="key_secret"):
        client(made.with_suffix(".key"))


def test_the_plants_key_is_the_one_given_then_the_folders_then_the_files(keys, site):
    made = keys.new("one", FEEDS)
    told = read(made)["server"]
    assert keys.client("one", FEEDS, "x" * 40).server == b"x" * 40
    elsewhere = Keys(site.folder / "elsewhere")
    (elsewhere.folder / FEEDS).mkdir(parents=True)
    made.rename(elsewhere.folder / FEEDS / made.name)
    assert elsewhere.client("one", FEEDS).server.decode() == told
    (elsewhere.folder / "server.key").write_text(f'public-key = "{"y" * 40}"\n')
    assert elsewhere.client("one", FEEDS).server == b"y" * 40


def test_what_root_makes_is_given_to_the_owner_of_the_folder_above(keys, monkeypatch):
    given = {}
    monkeypatch.setattr(keys_module.os, "geteuid", lambda: 0)
    monkeypatch.setattr(keys_module.os, "chown", lambda path, u, g: given.setdefault(path.name, (u, g)))
    made = keys.new("one", FEEDS)
    owner = keys.folder.parent.stat()
    assert set(given.values()) == {(owner.st_uid, owner.st_gid)}
    assert {"keys", FEEDS, f".{made.name}.draft", ".one.key.draft", ".server.key_secret.draft"} <= set(given)


def test_the_command_line_makes_lists_and_revokes(cfg, invoke):
    said = invoke("keys", "new", "one", "--feed")
    assert str(cfg.keys_dir / "feeds" / "one.key_secret") in said
    assert "desk.key_secret" in invoke("keys", "new", "desk", "--client")
    listed = [line.split()[:2] + line.split()[3:4] for line in invoke("keys", "list").splitlines()]
    assert listed == [
        ["server", "own", "server"],
        ["feed", "accepted", "one"],
        ["client", "accepted", "desk"],
    ]
    invoke("keys", "revoke", "desk")
    assert "client  revoked" in invoke("keys", "list")


def test_a_key_for_a_feed_that_is_not_configured_is_refused(cfg, invoke):
    with pytest.raises(ConfigError, match=r"no \[feeds.three\]"):
        invoke("keys", "new", "three", "--feed")
    assert not cfg.keys_dir.exists()


@pytest.fixture
def invoke(cfg, capsys):
    def call(*arguments):
        capsys.readouterr()
        cli(["--config", str(cfg.path), *arguments], standalone_mode=False)
        return capsys.readouterr().out

    return call
