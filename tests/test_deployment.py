"""What operators start: gunicorn's settings, refusals to start, the image, compose, Kubernetes, systemd; alerts."""

import gc
import http.server
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis as redis_client
import yaml
from conftest import wait_for
from servers import GUNICORN, PATIENCE, ROOT, Process, clean_environment, folder_for_sockets, redis_binary, run_flask

from magicauth.config import SETTINGS

NEEDED = ("SECRET_KEY", "PUBLIC_URL", "REDIS_URL", "DATABASE_URL", "MAIL_SERVER")


def gunicorn_settings() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "gunicorn.conf.py"))


@pytest.fixture
def compose() -> Any:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_gunicorn_takes_its_size_and_address_from_the_environment(monkeypatch):
    for name in ("WEB_CONCURRENCY", "GUNICORN_THREADS", "PORT", "BIND"):
        monkeypatch.delenv(name, raising=False)
    settings = gunicorn_settings()
    assert (settings["workers"], settings["threads"], settings["bind"]) == (2, 4, "127.0.0.1:8000")
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    monkeypatch.setenv("GUNICORN_THREADS", "8")
    monkeypatch.setenv("PORT", "5000")
    settings = gunicorn_settings()
    assert (settings["workers"], settings["threads"], settings["bind"]) == (3, 8, "0.0.0.0:5000")
    monkeypatch.setenv("BIND", "unix:/run/magicauth.sock")
    assert gunicorn_settings()["bind"] == "unix:/run/magicauth.sock"
    monkeypatch.setenv("GUNICORN_THREADS", "many")
    with pytest.raises(SystemExit, match=re.escape("GUNICORN_THREADS must be a whole number from 1.")):
        gunicorn_settings()


def test_gunicorn_that_refuses_its_settings_leaves_no_folder_behind(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setenv("MAGICAUTH_METRICS_TOKEN", "for the tests")
    monkeypatch.setenv("GUNICORN_THREADS", "many")
    with pytest.raises(SystemExit):
        gunicorn_settings()
    assert list(tmp_path.iterdir()) == []


def test_gunicorn_opens_no_control_socket_believes_no_proxy_and_bounds_every_write():
    settings = gunicorn_settings()
    assert settings["control_socket_disable"] is True
    assert settings["forwarded_allow_ips"] == ""
    assert settings["secure_scheme_headers"] == {}
    assert settings["sendfile"] is False


def test_a_worker_looks_for_no_garbage_while_it_loads_and_does_again_afterwards():
    worker: Any = object.__new__(gunicorn_settings()["Worker"])
    worker.app = SimpleNamespace(wsgi=gc.isenabled)
    try:
        worker.load_wsgi()
        assert worker.wsgi is False
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_gunicorn_says_each_missing_setting_once_and_ends(tmp_path):
    env = clean_environment() | {"BIND": "127.0.0.1:0"}
    process = Process([GUNICORN], tmp_path / "log", env=env, cwd=ROOT)
    try:
        assert process.wait(PATIENCE) == 3
        assert process.members == []
    finally:
        process.kill()
    assert [process.output.count(f"  - {name} is missing: ") for name in NEEDED] == [1] * len(NEEDED)
    assert "Traceback" not in process.output
    assert process.output.count("Booting worker") == 2


def test_gunicorn_ends_though_nobody_reads_what_is_missing():
    env = clean_environment() | {"BIND": "127.0.0.1:0"}
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen([GUNICORN], env=env, cwd=ROOT, stdout=write, stderr=write) as process:
        os.close(write)
        try:
            assert process.wait(PATIENCE) != 0
        finally:
            process.kill()


def test_flask_says_each_missing_setting_without_a_trace():
    done = run_flask("run", env=clean_environment())
    assert done.returncode == 1
    assert re.findall(r"^  - (\w+) is missing: .+\.$", done.stderr, re.MULTILINE) == list(NEEDED)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_compose_listens_on_the_loopback_address_only(compose):
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_names_the_secrets_that_are_missing(compose):
    text = (ROOT / "docker-compose.yml").read_text()
    assert compose["services"]["app"]["environment"]["SECRET_KEY"].startswith("${SECRET_KEY:?")
    assert re.findall(r"\$\{(?:SECRET_KEY|POSTGRES_PASSWORD)(?!:\?)\}", text) == []
    assert len(re.findall(r"\$\{POSTGRES_PASSWORD:\?", text)) == 2


def test_compose_sets_what_production_needs_by_names_that_exist(compose):
    given = set(compose["services"]["app"]["environment"])
    assert set(NEEDED) <= given
    assert given - {setting.name for setting in SETTINGS} == {"WEB_CONCURRENCY"}


def test_compose_migrates_once_before_anything_of_ours_starts(compose):
    services = compose["services"]
    assert services["migrate"]["command"] == ["flask", "db", "upgrade"]
    assert services["migrate"]["restart"] == "no"
    for name in ("app", "mail"):
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_the_valkey_of_compose_keeps_what_it_was_told(compose):
    _, *options = compose["services"]["valkey"]["command"]
    with folder_for_sockets() as folder:
        here = ["--port", "0", "--unixsocket", str(folder / "sock"), "--dir", str(folder)]
        process = Process([redis_binary(), *options, *here], folder / "log", cwd=folder)
        client = redis_client.Redis(unix_socket_path=str(folder / "sock"))
        try:
            wait_for((folder / "sock").exists, PATIENCE)
            kept = {name: client.config_get(name)[name] for name in ("appendonly", "maxmemory-policy")}
        finally:
            client.close()
            process.kill()
    assert kept == {"appendonly": "yes", "maxmemory-policy": "noeviction"}


def test_the_image_runs_without_rights_and_gets_every_file_it_copies():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert "USER 10001" in lines
    assert lines[-1] == 'CMD ["gunicorn"]'
    let_in = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines()}
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert copied and all((ROOT / word).exists() and word in let_in for word in copied)


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_image_knows_whether_it_is_healthy(status, healthy):
    asked: list[str] = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    (command,) = re.findall(r"^ +CMD (\[.+\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            _, *arguments = json.loads(command.replace(":8000/", f":{server.server_port}/"))
            done = subprocess.run([sys.executable, *arguments], capture_output=True, check=False, timeout=20)
        finally:
            server.shutdown()
            thread.join()
    assert (done.returncode == 0) is healthy
    assert asked == ["/healthz"]


@pytest.fixture
def manifests() -> list[Any]:
    return list(yaml.safe_load_all((ROOT / "deploy/kubernetes/magicauth.yaml").read_text()))


def pods(manifests: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Each pod's specification, and its one container."""
    for manifest in manifests:
        if pod := manifest.get("spec", {}).get("template"):
            (container,) = pod["spec"]["containers"]
            yield pod["spec"], container


def test_kubernetes_sets_what_production_needs_by_names_that_exist(manifests):
    named = {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}
    given = set(named["ConfigMap", "magicauth"]["data"])
    assert given - {setting.name for setting in SETTINGS} == {"BIND"}
    comment = text_of("kubernetes/magicauth.yaml").partition("apiVersion")[0]
    assert all(name in comment for name in set(NEEDED) - given)
    for _, container in pods(manifests):
        assert container["envFrom"] == [{"configMapRef": {"name": "magicauth"}}, {"secretRef": {"name": "magicauth"}}]


def test_kubernetes_asks_for_health_and_sends_visitors_where_something_listens(manifests, client):
    named = {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}
    deployment, service = named["Deployment", "magicauth"]["spec"], named["Service", "magicauth"]["spec"]
    (container,) = deployment["template"]["spec"]["containers"]
    (port,) = container["ports"]
    assert named["ConfigMap", "magicauth"]["data"]["BIND"].endswith(f":{port['containerPort']}")
    assert service["ports"][0]["targetPort"] == port["name"]
    for probe in ("readinessProbe", "livenessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["port"] == port["name"]
        assert client.get(asked["path"]).status_code == 200
    # Redis away must not restart what would wait for it.
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    for kind, name in named:
        if kind == "Deployment":
            spec = named[kind, name]["spec"]
            assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    assert service["selector"] == deployment["template"]["metadata"]["labels"]


def test_kubernetes_gives_no_rights_and_time_to_finish(manifests):
    assert len(list(pods(manifests))) == 3
    for spec, container in pods(manifests):
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 10001
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False
        if spec.get("restartPolicy") != "OnFailure":
            assert spec["terminationGracePeriodSeconds"] > gunicorn_settings()["graceful_timeout"]


def test_kubernetes_migrates_in_a_job_of_its_own(manifests):
    (job,) = [manifest for manifest in manifests if manifest["kind"] == "Job"]
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["flask", "db", "upgrade"]


def text_of(name: str) -> str:
    return (ROOT / "deploy" / name).read_text()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_understands_the_units(tmp_path):
    for name in ("flask", "gunicorn"):
        (tmp_path / ".venv/bin").mkdir(parents=True, exist_ok=True)
        shutil.copy("/bin/true", tmp_path / ".venv/bin" / name)
    for name in ("magicauth.service", "magicauth-mail.service"):
        (tmp_path / name).write_text(text_of(f"systemd/{name}").replace("/opt/magicauth", str(tmp_path)))
    verify = ["systemd-analyze", "verify", "--man=no", *tmp_path.glob("*.service")]
    done = subprocess.run(verify, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["magicauth.service", "magicauth-mail.service"])
def test_a_checkout_that_systemd_runs_is_in_production_whatever_its_flaskenv_says(name):
    given = dict(re.findall(r"^Environment=(\w+)=(.*)$", text_of(f"systemd/{name}"), re.MULTILINE))
    (command,) = re.findall(r"^Exec\w+=\S+/flask (.+)$", text_of(f"systemd/{name}"), re.MULTILINE)
    run = [sys.executable, "-m", "flask", *command.split()]
    done = subprocess.run(
        run, env=clean_environment() | given, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert re.findall(r"^  - (\w+) is missing: .+\.$", done.stderr, re.MULTILINE) == list(NEEDED)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["alerts.yml", "grafana-dashboard.json"])
def test_what_is_watched_is_counted(name, make_app):
    answer = (
        make_app(MAGICAUTH_METRICS_TOKEN="secret")
        .test_client()
        .get("/metrics", headers={"Authorization": "Bearer secret"})
    )
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", answer.text, re.MULTILINE))
    counted = kinds.keys() | {f"{metric}_bucket" for metric, kind in kinds.items() if kind == "histogram"}
    watched = set(re.findall(r"magicauth_\w+", text_of(name)))
    assert watched and watched <= counted


def test_the_alerts_are_rules():
    (group,) = yaml.safe_load(text_of("alerts.yml"))["groups"]
    names = [rule["alert"] for rule in group["rules"]]
    assert len(names) == len(set(names)) > 0
    for rule in group["rules"]:
        assert rule["expr"] and rule["labels"]["severity"] in ("page", "ticket") and rule["annotations"]["summary"]
