"""What must not leave a machine, in the forms in which logs and errors have it."""

import json
from pathlib import Path

import pytest

from experiments.harness import run_paths, scrub, stored
from experiments.harness.scrub import Scrubber


@pytest.fixture
def scrubber(monkeypatch: pytest.MonkeyPatch) -> Scrubber:
    for name, value in (
        ("HOME", "/home/some body"), ("ZIA_DATA", "/data sets/of us"), ("USER", "jdoe"),
        ("LOGNAME", "jdoe"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    found = Scrubber()
    found.collect([{"host": "gpu-node-17.cluster.example.org"}, {"node": "Laptop"}])
    found.collect({"reason": "cannot read /home/Jane Doe/x and C:\\Users\\mallory\\y"})
    return found


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        # Paths, with spaces too.
        ("/data sets/of us/my set/a.json", "$ZIA_DATA/my set/a.json"),
        ("/home/some body/models/w.gguf", "~/models/w.gguf"),
        ("/home/some body", "~"),
        ("cannot read /scratch/My Models/v 2/w.gguf: gone", "cannot read w.gguf: gone"),
        ("/scratch/My Models/w v2 (new).gguf", "w v2 (new).gguf"),
        ("denied: /home/Jane Roe, sorry", "denied: <path>, sorry"),
        ("/home/Jane Roe", "<path>"),
        ("C:\\Users\\Ann Onymous\\My Files\\x.txt", "x.txt"),
        ("in C:\\Program Files\\My App\\a.dll, ok", "in a.dll, ok"),
        ("D:/models/of ours/w.gguf", "w.gguf"),
        ("\\\\server\\share\\a b\\c.txt", "c.txt"),
        ("file:///scratch/our group/w.json", "file://w.json"),
        ("scp there:/scratch/group/w.json", "scp there:w.json"),
        ("/a/b/w.gguf is other than that of /c/d/e.json", "e.json"),
        ("not /a/b/w.gguf as of /c/d/e.json", "not w.gguf as of e.json"),
        # Hosts, their short names and domains.
        ("gpu-node-17.cluster.example.org", "host-1"),
        ("GPU-NODE-17 and gpu-node-17.ib0.local", "host-1 and host-1"),
        ("login.cluster.example.org, cluster.example.org", "<host>, <host>"),
        ("laptop.cs.uni.edu laptops", "host-2 laptops"),
        # Addresses.
        ("10.1.2.3:8080, fe80::1ff:fe23:4567:890a, ::1", "<address>:8080, <address>, <address>"),
        ("jane.roe@uni.example.edu", "<address>"),
        # Users.
        ("jdoe, Jane Doe and mallory", "<user>, <user> and <user>"),
        # Secrets.
        ("https://bob:hunter2@hub.example.com:8443/w?token=abc#x", "https://hub.example.com:8443/w"),
        ("https://hf_abcdefghijklmnopqrst@hub.example.com/w", "https://hub.example.com/w"),
        ("ssh://git@other/home/jdoe/x", "ssh://other"),
        ("s3://key:secret@bucket/our/group", "s3://bucket"),
        ("hf_abcdefghijklmnopqrstuv", "<secret>"),
        ("HF_TOKEN=abc password: xyz", "HF_TOKEN=<secret> password: <secret>"),
        ("Authorization: Bearer abcdefgh12345678", "Authorization: <secret>"),
    ],
)  # fmt: skip
def test_what_identifies_goes(scrubber: Scrubber, text: str, clean: str) -> None:
    assert scrubber.scrub({"a": [text]}) == {"a": [clean]}
    assert scrubber.scrub({text: 1}) == {clean: 1}


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/models/w at 12 tokens/s, see docs/../README.md",
        "Linux-6.18.44-fc-v595-x86_64-with-glibc2.36",
        "13:58:46, 2026-11-23T13:58:46+00:00",
        "version 13.4.1.3.6",
        "and/or, n/a, 1/2",
        "done",
        "AMD EPYC 7763 64-Core",
        "9903da91343087ec31d696a105c131ddad37befc4d9c4ebeb32b439607a46bd4",
    ],
)
def test_what_says_nothing_of_anybody_stays(scrubber: Scrubber, text: str) -> None:
    assert scrubber.scrub(text) == text


def test_what_a_key_tells_of_its_value(scrubber: Scrubber) -> None:
    value = {"packages": {"nvidia-cublas": "13.4.1.3"}, "api_key": "x", "tokens_per_s": "fast"}
    assert scrubber.scrub(value) == value | {"api_key": "<secret>"}


def test_our_own_fields_keep_their_names_on_a_host_of_the_same() -> None:
    value = {"host": "torch", "torch": {"version": "2.11"}, "on torch": 1}
    scrubber = Scrubber()
    scrubber.collect(value)
    clean = {"host": "host-1", "torch": {"version": "2.11"}, "on host-1": 1}
    assert scrubber.scrub(value) == clean


def test_the_host_of_every_run_has_its_own_number() -> None:
    scrubber = Scrubber()
    scrubber.collect([{"host": "a"}, {"attempts": [{"host": "b"}, {"host": "a"}]}])
    assert scrubber.scrub({"of b": ["a and b", "a-b", 1]}) == {
        "of host-2": ["host-1 and host-2", "a-b", 1]
    }


def test_published_runs_would_be_published_as_they_are(repository: Path) -> None:
    published = run_paths.every_run(repository / "results" / "published")
    assert published
    for path in list(published.values())[::9]:
        scrubber = Scrubber()
        assert scrubber.paths_out(stored.load(path).config) == stored.load(path).config
        for name in (stored.ENVIRONMENT, stored.STATUS, stored.RESULT):
            value = json.loads((path / name).read_bytes())
            scrubber.collect(value)
            assert scrubber.scrub(value) == value


def test_a_text_is_searched_for_the_hosts_that_it_may_name_not_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scrubber, searched = Scrubber(), []
    hosts = [f"node{number:04d}.cluster.example.org" for number in range(500)]
    scrubber.collect([{"host": host} for host in (*hosts, *hosts, "10.1.2.3", "fe80::17")])
    replaced = scrub._replaced
    monkeypatch.setattr(
        scrub, "_replaced", lambda text, *how: searched.append(how) or replaced(text, *how)
    )
    said = "NODE0007: lost node0499.cluster.example.org, (node0012), node0012.other.net; 10.1.2.3"
    cleaned = "host-8: lost host-500, (host-13), host-13; host-501"
    assert scrubber.scrub(said) == cleaned
    assert len(searched) < 20
    assert scrubber.scrub(f"{said} é").startswith(cleaned)  # all of them: the same
    assert len(searched) > 1000
    assert scrubber.scrub("at fe80::17") == "at host-502"


def test_hosts_are_numbered_once_however_often_they_are_met() -> None:
    scrubber = Scrubber()
    for _ in range(3):
        scrubber.collect(
            [{"host": "a.x.org"}, {"host": "b"}, {"node": "a"}, {"hostname": "A.y.org"}]
        )
    assert scrubber.scrub(["a.x.org", "b", "A", "a.y.org"]) == [
        "host-1",
        "host-2",
        "host-1",
        "host-1",
    ]
