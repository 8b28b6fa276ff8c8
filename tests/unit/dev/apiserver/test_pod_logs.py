"""Logs that a local node wrote: when their lines came, and those of pods that are gone."""

import os
from pathlib import Path

from hatchet_operator_dev.apiserver.pod_logs import Times, kept_log, read_tail

FIRST, SECOND = b"2026-11-28T12:00:00.250000Z ", b"2026-11-28T12:00:01.500000Z "
NOON = 1795867200


def test_each_line_has_the_time_at_which_its_first_byte_came(tmp_path: Path) -> None:
    log = tmp_path / "pod.log"
    log.write_bytes(b"one\nha\rlf\nlast")
    (tmp_path / "pod.log.times").write_text(f"0 {NOON}.25\n7 {NOON + 1}.5\n")
    times = Times(log)
    assert times.put_before(b"one\nha\r", 0) == FIRST + b"one\n" + FIRST + b"ha\r"
    assert times.put_before(b"lf\nlast", 7) == b"lf\n" + SECOND + b"last"


def test_of_a_tail_too(tmp_path: Path) -> None:
    log = tmp_path / "pod.log"
    log.write_bytes(b"one\ntwo\n")
    (tmp_path / "pod.log.times").write_text(f"0 {NOON}.25\n4 {NOON + 1}.5\n")
    text, position = read_tail(log, 1)
    assert Times(log).put_before(text, position - len(text)) == SECOND + b"two\n"


def test_without_a_file_of_times_it_is_that_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "pod.log"
    log.write_bytes(b"one\n")
    os.utime(log, (NOON, NOON))
    assert Times(log).put_before(b"one\n", 0) == b"2026-11-28T12:00:00.000000Z one\n"


def test_of_pods_of_one_name_the_newest_log_is_kept(tmp_path: Path) -> None:
    for age, uid in enumerate(("new", "old")):
        (tmp_path / f"default_pod_{uid}.log").touch()
        os.utime(tmp_path / f"default_pod_{uid}.log", (NOON - age, NOON - age))
    assert kept_log(tmp_path, "default", "pod") == tmp_path / "default_pod_new.log"
    assert kept_log(tmp_path, "default", "po") is None
    assert kept_log(None, "default", "pod") is None
