"""Jobs of several processes start, are watched, and end together. Most workers are toys."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from conftest import REPOSITORY

from dmr_gluon.cli import main as cli
from dmr_gluon.errors import DMRError
from dmr_gluon.launch.plan import Task, assign_hosts, read_hosts

LAUNCH = """
import json, sys
from dmr_gluon.launch.supervisor import Job, launch
sys.exit(launch(Job(**json.loads(sys.argv[1]))))
"""

#: Replaces scheduler and servers: ends when every worker of this attempt has marked its end.
SERVE = """
import glob, os, time
print("serving", os.environ["DMLC_ROLE"], os.environ["OMP_NUM_THREADS"])
with open("serving-" + os.environ["DMLC_ROLE"], "a") as file:
    print(os.getpid(), file=file)
ended, workers = "ended-%s-*" % os.environ["DMR_ATTEMPT"], int(os.environ["DMLC_NUM_WORKER"])
while len(glob.glob(ended)) < workers:
    time.sleep(0.02)
"""

#: Head of every toy worker.
WORKER = """
import os, signal, subprocess, sys, time
number, attempt = int(os.environ["DMR_WORKER"]), int(os.environ.get("DMR_ATTEMPT", 0))
def end(status=0):
    open("ended-%d-%d" % (attempt, number), "w").close()
    sys.exit(status)
"""

REAL_WORKER = """
import os, sys, time
from dmr_gluon.runtime import mx
kv = mx.kv.create("dist_sync")
kv.init("0", mx.nd.zeros((3,)))
number, attempt = int(os.environ["DMR_WORKER"]), int(os.environ.get("DMR_ATTEMPT", 0))
x = mx.nd.ones((3,)) * (number + 1)
kv.pushpull("0", x, out=x)
print("sum", x.asnumpy().tolist())
while len(sys.argv) > 1 and not attempt:
    kv.pushpull("0", x, out=x)
    x.wait_to_read()
    print("step")
    time.sleep(0.02)
"""


class Started:
    """A launcher in its own process, with its output and its descendants."""

    def __init__(self, folder, arguments, terminal=None, **variables):
        self.mark = f"DMR_TEST_MARK={uuid.uuid4()}"
        name, value = self.mark.split("=")
        self.files = [folder / f"{value}.{stream}" for stream in ("stdout", "stderr")]
        with open(self.files[0], "w") as out, open(self.files[1], "w") as err:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), name: value, **variables},
                stdin=subprocess.DEVNULL,
                stdout=out if terminal is None else terminal,
                stderr=err if terminal is None else terminal,
            )

    @property
    def stdout(self):
        return self.files[0].read_text()

    @property
    def stderr(self):
        return self.files[1].read_text()

    def wait(self):
        return self.process.wait(60)

    def wait_for(self, pattern, count=1):
        """Wait until stdout has the pattern ``count`` times; return all matches."""
        deadline = time.monotonic() + 60
        while len(re.findall(pattern, self.stdout)) < count:
            assert self.process.poll() is None and time.monotonic() < deadline, vars(self)
            time.sleep(0.02)
        return re.findall(pattern, self.stdout)

    def living(self):
        """Command lines of the job's processes by process id."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                mine = self.mark in (folder / "environ").read_text(errors="replace")
                line = (folder / "cmdline").read_text(errors="replace").replace("\0", " ")
            except OSError:
                continue
            if mine and line:
                found[int(folder.name)] = line
        return found

    def process_of(self, role):
        """Process id of the last process with a role, without its guardian."""
        return max(
            pid
            for pid, line in self.living().items()
            if "guardian" not in line
            and f"DMLC_ROLE={role}" in Path(f"/proc/{pid}/environ").read_text().split("\0")
        )

    def assert_nothing_lives(self, within=15):
        deadline = time.monotonic() + within
        while self.living() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not self.living()


@pytest.fixture
def launched(tmp_path):
    """Start a job of toys, and kill its remains after the test."""
    jobs = []

    def start(worker, workers=2, servers=1, **options):
        variables, terminal = options.pop("variables", {}), options.pop("terminal", None)
        job = {
            "command": [sys.executable, "-c", WORKER + worker, "it's", 'a "word"'],
            "workers": workers,
            "servers": servers,
            "serve": [sys.executable, "-c", SERVE],
            **options,
        }
        jobs.append(Started(tmp_path, ["-c", LAUNCH, json.dumps(job)], terminal, **variables))
        return jobs[-1]

    def command(*arguments, **variables):
        jobs.append(
            Started(tmp_path, ["-m", "dmr_gluon.cli.main", "launch", *arguments], **variables)
        )
        return jobs[-1]

    start.command = command
    yield start
    for job in jobs:
        job.process.kill()
        job.process.wait()
        for pid in job.living():
            os.kill(pid, signal.SIGKILL)


def test_every_process_knows_its_role_and_shares_the_cores(launched, monkeypatch):
    from dmr_gluon.system.machine import usable_cores

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    job = launched(
        "import json\n"
        "print(json.dumps(dict(os.environ, arguments=sys.argv[1:])))\n"
        # They are stopped when all workers have ended.
        "served = {'serving-scheduler': 1, 'serving-server': 2}\n"
        "while not all(os.path.exists(f) and len(list(open(f))) == n for f, n in served.items()):\n"
        "    time.sleep(0.05)\n"
        "end()\n",
        workers=3,
        servers=2,
    )  # fmt: skip
    assert job.wait() == 0, job.stderr
    lines = job.stdout.splitlines()
    served = sorted(line for line in lines if "serving" in line)
    assert served == [
        "[scheduler] serving scheduler 1",
        "[server 0] serving server 1",
        "[server 1] serving server 1",
    ]
    ports = set()
    for number, prefix in enumerate(("", "[worker 1] ", "[worker 2] ")):
        (line,) = (line for line in lines if line.startswith(prefix + "{"))
        told = json.loads(line[len(prefix) :])
        ports.add(told.pop("DMLC_PS_ROOT_PORT"))
        expected = {
            "DMLC_ROLE": "worker",
            "DMLC_PS_ROOT_URI": "127.0.0.1",
            "DMLC_NUM_SERVER": "2",
            "DMLC_NUM_WORKER": "3",
            "DMR_WORKER": str(number),
            "DMR_ATTEMPT": "0",
            "OMP_NUM_THREADS": str(max(1, usable_cores() // 3)),
            "arguments": ["it's", 'a "word"'],
        }
        assert {name: told[name] for name in expected} == expected
    assert len(ports) == 1 and len(lines) == 6
    job.assert_nothing_lives()


def test_lines_stay_whole_and_stderr_stays_stderr(launched):
    job = launched(
        "assert os.environ['OMP_NUM_THREADS'] == '7'\n"  # the user's choice stays
        "for k in range(300):\n"
        "    for text, to in (('out ', 1), ('err ', 2), (f'{k}\\n', 1), (f'{k}\\n', 2)):\n"
        "        os.write(to, text.encode())\n"
        "os.write(1, b'without end')\n"
        "end()\n",
        variables={"OMP_NUM_THREADS": "7"},
    )  # fmt: skip
    assert job.wait() == 0
    for word, text in (("out", job.stdout), ("err", job.stderr)):
        lines = [line for line in text.splitlines() if "serving" not in line]
        for prefix in ("", "[worker 1] "):
            mine = [line for line in lines if line.startswith(prefix + word)]
            assert mine == [f"{prefix}{word} {k}" for k in range(300)]
            assert (prefix + "without end" in lines) == (word == "out")


def test_a_worker_that_raises_is_named_after_its_last_words(launched):
    job = launched(
        "if number:\n"
        "    sys.stderr.write('words\\n' * 10000)\n"
        "    raise ValueError('no such thing')\n"
        "time.sleep(600)\n"
    )  # fmt: skip
    assert job.wait() == 1
    *rest, said, last = job.stderr.splitlines()
    assert said == "[worker 1] ValueError: no such thing", rest
    assert last == "dmr launch: worker 1 ended with exit status 1; stopping the others"
    job.assert_nothing_lives()


def test_a_killed_worker_is_named_and_nothing_survives_it(launched):
    """Not even a child of a worker, or a worker that ignores SIGTERM."""
    job = launched(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "subprocess.Popen(['sleep', '600'])\n"
        "print('pid', os.getpid())\n"
        "time.sleep(600)\n",
        workers=3,
    )  # fmt: skip
    job.wait_for(r"pid \d+", count=3)
    (pid,) = re.findall(r"\[worker 2\] pid (\d+)", job.stdout)
    assert sum("sleep 600" in line for line in job.living().values()) == 3
    os.kill(int(pid), signal.SIGKILL)
    killed = time.monotonic()
    assert job.wait() == 128 + signal.SIGKILL
    assert time.monotonic() - killed < 15
    assert "worker 2 was ended by SIGKILL; stopping the others" in job.stderr
    assert not job.living()


@pytest.mark.parametrize("role", ["server", pytest.param("scheduler", marks=pytest.mark.slow)])
def test_a_killed_server_ends_the_job(launched, role):
    job = launched("print('up')\ntime.sleep(600)")
    job.wait_for("up", count=2)
    job.wait_for(rf"\[{role}.*\] serving")
    victim = job.process_of(role)
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    assert job.wait() == 1
    assert time.monotonic() - killed < 15
    assert re.search(rf"{role}( \d)? was ended by SIGKILL", job.stderr)
    assert not job.living()


@pytest.mark.slow
def test_servers_may_end_before_workers_that_need_them_no_longer(launched):
    job = launched("time.sleep(1.5 * number)\nprint('saved')\nend()", serve=["true"])
    assert job.wait() == 0, job.stderr
    assert job.stdout.count("saved") == 2 and job.stderr == ""


def test_after_a_failure_it_starts_again(launched):
    """After a signal, and after an error during training, which has its own exit status."""
    job = launched(
        "from dmr_gluon.errors import Failed\n"
        "from dmr_gluon.cli.program import run\n"
        "def main():\n"
        "    raise Failed('No space left on device')\n"
        "print('attempt', attempt, 'port', os.environ['DMLC_PS_ROOT_PORT'])\n"
        "if attempt == 0:\n"
        "    os.kill(os.getpid(), signal.SIGKILL) if number == 1 else time.sleep(600)\n"
        "if attempt == 1:\n"
        "    run(main) if number == 1 else time.sleep(600)\n"
        "end()\n",
        max_restarts=3,
    )  # fmt: skip
    assert job.wait() == 0, job.stderr
    assert "worker 1" in job.stderr and "starting again (restart 2 of 3)" in job.stderr
    assert "[worker 1] error: No space left on device" in job.stderr
    ports = dict(re.findall(r"attempt (\d) port (\d+)", job.stdout))
    assert sorted(ports) == ["0", "1", "2"] and len(set(ports.values())) == 3


def test_it_starts_again_no_oftener_than_allowed(launched):
    job = launched("print('attempt', attempt)\nsys.exit(3)", workers=1, max_restarts=1)
    assert job.wait() == 3
    assert re.findall(r"attempt (\d)", job.stdout) == ["0", "1"]


def test_a_refusal_is_not_tried_again(launched):
    job = launched("print('attempt', attempt)\nsys.exit(2)", workers=1, max_restarts=2)
    assert job.wait() == 2
    assert job.stdout.count("attempt") == 1 and "starting again" not in job.stderr


def test_a_signal_ends_the_job_also_while_the_cause_of_a_failure_is_sought(launched):
    job = launched("print('up')\ntime.sleep(600)", max_restarts=1)
    job.wait_for("up", count=2)
    job.wait_for("serving", count=2)
    os.kill(job.process_of("server"), signal.SIGKILL)
    time.sleep(0.3)  # now the launcher waits for the end of a worker
    job.process.send_signal(signal.SIGTERM)
    assert job.wait() == 143
    assert "starting again" not in job.stderr
    job.assert_nothing_lives()


SAVING = """
def save(*_):
    time.sleep(0.3)
    for role in ("scheduler", "server"):
        os.kill(int(open("serving-" + role).read()), 0)
    print("saved", number)
    end(143)
signal.signal(signal.SIGTERM, save)
print("up")
time.sleep(600)
"""


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        *(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGINT, signal.SIGHUP)),
    ],
)
def test_workers_get_time_to_save_and_servers_serve_them(launched, number):
    job = launched(SAVING, max_restarts=1)
    job.wait_for("up", count=2)
    job.wait_for("serving", count=2)
    job.process.send_signal(number)
    assert job.wait() == 128 + number
    assert "saved 0" in job.stdout and "[worker 1] saved 1" in job.stdout
    assert "starting again" not in job.stderr
    job.assert_nothing_lives()


@pytest.mark.parametrize("sent", [True, False], ids=["SIGHUP", "only output that fails"])
def test_workers_get_time_to_save_when_the_terminal_is_gone(launched, tmp_path, sent):
    ours, theirs = pty.openpty()
    job = launched(SAVING if sent else TALKING, terminal=theirs)
    os.close(theirs)
    shown = b""
    while shown.count(b"up") < 2 or shown.count(b"serving") < 2:
        shown += os.read(ours, 4096)
    os.close(ours)
    if sent:
        for _ in range(2):  # a shell sends it, and then the kernel
            job.process.send_signal(signal.SIGHUP)
            time.sleep(0.1)
    assert job.wait() == 128 + signal.SIGHUP
    assert len(list(tmp_path.glob("ended-0-*"))) == 2
    job.assert_nothing_lives()


#: Prints lines all the time, as trainings do.
TALKING = SAVING.replace("time.sleep(600)", "while True: print('step'), time.sleep(0.05)")

#: Continues after the first SIGTERM, like a worker in a long step.
BUSY = """
signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
print("up")
time.sleep(600)
"""


def test_workers_that_do_not_end_are_ended(launched):
    job = launched(BUSY, grace=0.2)
    job.wait_for("up", count=2)
    job.process.send_signal(signal.SIGTERM)
    assert job.wait() == 143
    assert "not ended after 0.2 s" in job.stderr
    assert not job.living()


def test_a_second_signal_stops_at_once(launched):
    job = launched(BUSY, grace=600)
    job.wait_for("up", count=2)
    job.process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    assert job.process.poll() is None
    job.process.send_signal(signal.SIGINT)
    assert job.wait() == 130
    assert not job.living()


def test_nothing_survives_a_killed_launcher(launched):
    job = launched(
        "subprocess.Popen(['sleep', '600'])\n"
        "print('up')\n"
        "time.sleep(600)\n"
    )  # fmt: skip
    job.wait_for("up", count=2)
    assert len(job.living()) > 8
    job.process.kill()
    job.process.wait()
    job.assert_nothing_lives()


def test_a_program_that_cannot_be_started_is_named(launched):
    job = launched("", command=["/nonexistent/python"])
    assert job.wait() == 127
    assert "error: /nonexistent/python cannot be started" in job.stderr
    assert re.search(r"worker [01] ended with exit status 127", job.stderr)


#: Runs the command line of a host here, in an environment of its own. It comes after five words.
SSH = """#!/bin/sh
echo "$6" >> hosts-used
exec env -i HOME=/ PATH=/usr/bin:/bin sh -c "cd / && $7"
"""


@pytest.fixture
def ssh(tmp_path):
    """Install a program in place of ssh; return the PATH with it."""

    def install(text=SSH):
        program = tmp_path / "ssh"
        program.write_text(text)
        program.chmod(0o755)
        return f"{tmp_path}{os.pathsep}{os.environ['PATH']}"

    return install


def test_hosts_over_ssh(launched, ssh, tmp_path):
    job = launched(
        "print(os.getcwd(), sys.argv[1:], os.environ['DMLC_PS_ROOT_URI'])\n"
        "print(os.environ['MXNET_TOLD'], os.environ['DMLC_TOLD'], 'UNTOLD' in os.environ)\n"
        "end()\n",
        workers=3,
        hosts=["me@alpha", "beta"],
        variables={"PATH": ssh(), "MXNET_TOLD": "1 'a'", "DMLC_TOLD": "$HOME\n", "UNTOLD": "x"},
    )  # fmt: skip
    assert job.wait() == 0, job.stderr
    arguments = ["it's", 'a "word"']
    assert f"\n{tmp_path} {arguments} alpha\n" in "\n" + job.stdout
    assert job.stdout.count("1 'a' $HOME\n") == 3 and "True" not in job.stdout
    used = (tmp_path / "hosts-used").read_text().split()
    # Scheduler, one server and two workers; one worker.
    assert sorted(used) == ["beta"] + ["me@alpha"] * 4
    job.assert_nothing_lives()


@pytest.mark.slow
def test_a_lost_connection_ends_the_job_on_both_sides(launched, ssh):
    job = launched(
        "print('pid', os.getpid())\ntime.sleep(600)",
        hosts=["alpha", "beta"],
        variables={"PATH": ssh(LOST)},
    )
    job.wait_for(r"pid \d+", count=2)
    (pid,) = re.findall(r"\[worker 1\] pid (\d+)", job.stdout)
    (connection,) = (
        pid for pid, line in job.living().items() if " beta " in line and "DMR_WORKER=1" in line
    )
    os.kill(connection, signal.SIGKILL)
    assert job.wait() == 128 + signal.SIGKILL
    assert "worker 1 on beta was ended by SIGKILL" in job.stderr
    job.assert_nothing_lives()


#: An ssh whose end does not end the command, which only loses its standard input.
LOST = f"""#!{sys.executable}
import subprocess, sys
sys.exit(subprocess.call(["sh", "-c", sys.argv[7]], stdin=0))
"""


def test_a_host_that_cannot_be_reached_is_named(launched, ssh, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("alpha\n")
    job = launched.command(
        *("-n", "1", "--hosts", "hosts", "--", "true"), PATH=ssh("#!/bin/sh\nexit 255\n")
    )
    assert job.wait() == 255
    assert "on alpha ended with exit status 255" in job.stderr


def test_a_host_file(tmp_path):
    path = tmp_path / "hosts"
    path.write_text("# ours\nalpha\n\n  me@beta.example  # the new one\nalpha\n")
    assert read_hosts(str(path)) == ["alpha", "me@beta.example", "alpha"]


@pytest.mark.parametrize(
    "text, words",
    [
        ("alpha\nbeta slots=2\n", "line 2: 'slots=2' is not read; write one host a line"),
        ("# none\n", "names no host"),
        ("caf\udce9\n", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_bad_host_file_is_refused(tmp_path, text, words):
    path = tmp_path / "hosts"
    if text is not None:
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DMRError) as refused:
        read_hosts(str(path))
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_processes_are_assigned_to_hosts_in_turn():
    tasks = assign_hosts(5, 3, ["a", "b", "b"])
    assert tasks[0] == Task("scheduler", 0, "a")
    assert [task.host for task in tasks if task.role == "server"] == ["a", "b", "b"]
    assert [task.host for task in tasks if task.role == "worker"] == ["a", "b", "b", "a", "b"]
    assert [task.number for task in tasks] == [0, 0, 1, 2, 0, 1, 2, 3, 4]


ROLE = str(REPOSITORY / "examples" / "cluster_role.sh")
CLUSTER = {"DMLC_NUM_WORKER": "2", "DMLC_NUM_SERVER": "1", "DMLC_PS_ROOT_URI": "127.0.0.1"}


def in_cluster(rank, *command, **variables):
    """One process of a job as examples/cluster_role.sh starts it."""
    folder = os.path.dirname(sys.executable)
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", **CLUSTER}
    environment.update({"PYTHONPATH": str(REPOSITORY), **variables})
    return subprocess.Popen(
        ["sh", ROLE, str(rank), *command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "rank, says", [(0, "scheduler,,1"), (1, "server,,"), (2, "worker,0,"), (3, "worker,1,")]
)
def test_roles_in_a_cluster(tmp_path, rank, says):
    """Servers and the scheduler outlive the signal upon which workers save."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -TERM $$\necho $DMLC_ROLE,$DMR_WORKER,$DMLC_USE_KUBERNETES")
    python.chmod(0o755)
    say = "echo $DMLC_ROLE,$DMR_WORKER,$DMLC_USE_KUBERNETES; exit 7"
    process = in_cluster(rank, "sh", "-c", say, PATH=f"{tmp_path}:/usr/bin:/bin")
    assert process.communicate()[0] == says + "\n"
    assert process.returncode == (7 if rank > 1 else 0)


def test_the_documents_show_the_script():
    assert Path(ROLE).read_text() in (REPOSITORY / "docs" / "machines.md").read_text()


def test_a_rank_beyond_a_clusters_job_is_refused():
    process = in_cluster(4, "true")
    assert process.communicate() == ("", "rank 4 of a job of 4 processes\n")
    assert process.returncode == 2


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["-n", "2"], "say what the workers run"),
        (["-n", "2", "--"], "say what the workers run"),
        (["--", "true"], "-n"),
        (["-n", "0", "--", "true"], "-n: must be at least 1, not 0"),
        (["-n", "2", "-s", "0", "--", "true"], "-s: must be at least 1, not 0"),
        (["-n", "two", "--", "true"], "invalid int value: 'two'"),
        (["-n", "2", "--grace", "nan", "--", "true"], "--grace: must be from 0 to 86400"),
        (["-n", "2", "--grace", "inf", "--", "true"], "--grace: must be from 0 to 86400"),
        (["-n", "2", "--max-restarts", "-1", "--", "true"], "--max-restarts: must be at least 0"),
        (["-n", "2", "--", "no-such-program"], "no program no-such-program"),
        (["-n", "2", "--root", "a", "--", "true"], "--root does nothing without"),
        (["-n", "2", "--hosts", "none", "--", "true"], "--hosts none cannot be read"),
        (["-n", "2", "--bogus", "--", "true"], "--bogus"),
    ],
)
def test_bad_usage_is_refused(monkeypatch, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DMRError) as refused:
        cli._main(["launch", *arguments])
    assert words in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.slow  # test_distributed.py trains with two workers
def test_workers_sum_through_mxnets_server(launched):
    job = launched.command("-n", "2", "-s", "1", "--", sys.executable, "-c", REAL_WORKER)
    assert job.wait() == 0, job.stderr
    lines = sorted(job.stdout.splitlines())
    assert lines == ["[worker 1] sum [3.0, 3.0, 3.0]", "sum [3.0, 3.0, 3.0]"]
    job.assert_nothing_lives()


@pytest.mark.slow
@pytest.mark.parametrize("role", ["worker", "server"])
def test_mxnets_own_processes_are_ended_while_they_wait(launched, role):
    """A worker that lost its peer or server waits inside MXNet, where no Python handler runs."""
    job = launched.command(
        *("-n", "2", "-s", "2", "--max-restarts", "1", "--"),
        *(sys.executable, "-c", REAL_WORKER, "on and on"),
    )
    job.wait_for(r"\[worker 1\] step", count=5)
    victim = job.process_of(role)
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    while "starting again" not in job.stderr:
        assert time.monotonic() - killed < 15
        time.sleep(0.05)
    assert re.search(rf"{role} \d was ended by SIGKILL", job.stderr)
    assert job.wait() == 0
    assert job.stdout.count("sum [3.0, 3.0, 3.0]") == 4
    assert not job.living()


@pytest.mark.slow
def test_a_cluster_of_mxnets_processes():
    jobs = [
        in_cluster(rank, sys.executable, "-c", REAL_WORKER, DMLC_PS_ROOT_PORT="29091")
        for rank in range(4)
    ]
    said = [job.communicate() for job in jobs]
    assert [job.returncode for job in jobs] == [0] * 4, said
    assert [out for out, _ in said] == ["", "", *["sum [3.0, 3.0, 3.0]\n"] * 2]
