"""`make ui`: MLflow's interface starts, and listens only on this machine's own address."""

import urllib.request

from mlflow_ui import PATIENCE, interface, listening

PORT = 5000


def test_the_interface_listens_only_on_this_machine(tmp_path):
    with interface(tmp_path, PORT):
        assert listening(PORT) == {"127.0.0.1"}
        assert b"MLflow" in urllib.request.urlopen(f"http://127.0.0.1:{PORT}", timeout=PATIENCE).read()
