from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

# What images/operator/Dockerfile leaves out of the Kubernetes library.
WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if f"{name}.".startswith(("kubernetes.aio.", "kubernetes.client.api.")) or "kubernetes.client.models." in name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""
READ = """
from pathlib import Path
import hatchet_operator.serve
from hatchet_operator.cluster.kubeconfig import find_endpoint

endpoint = find_endpoint(Path(sys.argv[1]))
print(endpoint.server, endpoint.token, endpoint.namespace)
"""


def test_the_image_keeps_what_reads_a_kubeconfig_with_an_exec_plugin(tmp_path: Path) -> None:
    version = "client.authentication.k8s.io/v1"
    answer = {"apiVersion": version, "kind": "ExecCredential", "status": {"token": "of-a-plugin"}}
    plugin = {"apiVersion": version, "interactiveMode": "Never", "command": "echo", "args": [json.dumps(answer)]}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "http://10.0.0.1:6443"}}],
        "users": [{"name": "u", "user": {"exec": plugin}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "etl"}}],
        "current-context": "here",
    }
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(config))
    done = subprocess.run([sys.executable, "-c", WITHOUT + READ, file], capture_output=True, text=True)
    assert done.stdout.split() == ["http://10.0.0.1:6443", "of-a-plugin", "etl"], done.stderr
