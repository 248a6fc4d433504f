"""The bill of materials (CycloneDX JSON) of an environment with the wheel, and what its licences must be."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from release.building import Built, sha256
from release.environments import Environment
from release.failing import ReleaseError, tool

FOREIGN = {
    "type": "machine-learning-model",
    "bom-ref": "efficientnet-lite0",
    "name": "EfficientNet-Lite0",
    "description": "Weights trained on ImageNet; see NOTICE for what was changed.",
    "manufacturer": {"name": "Google"},
    "licenses": [{"license": {"id": "Apache-2.0"}}],
    "properties": [
        {"name": "emma_viz:file", "value": "emma_viz/checkpoints/bundled/lite0-256px.safetensors"}
    ],
}
"""What the wheel itself holds that was made elsewhere."""
REFUSED = re.compile(r"\bA?GPL\b|GNU (Affero )?General Public", re.IGNORECASE)
LESSER = re.compile(r"LGPL|Lesser|Library General", re.IGNORECASE)
NAMELESS = "states no licence"


def write(made: Environment, built: Built, source: Path, target: Path) -> None:
    """List what is installed.

    Args:
        made: the environment, before tools for tests are added.
        built: the wheel that was installed.
        source: the files of the commit.
        target: the file.

    Raises:
        ReleaseError: it cannot be made, or would be no valid CycloneDX.
    """
    command = [str(tool("cyclonedx-py")), "environment", str(made.python)]
    command += ["--pyproject", str(source / "pyproject.toml"), "--mc-type", "library", "--sv", "1.6"]
    command += ["--output-reproducible", "--output-file", str(target)]
    surroundings = {**os.environ, "SOURCE_DATE_EPOCH": str(built.epoch)}
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"the bill of materials cannot be made:\n{done.stderr[-2000:]}")
    bill = json.loads(target.read_text("utf-8"))
    bill["components"].append(FOREIGN)
    bill["metadata"]["component"]["hashes"] = [{"alg": "SHA-256", "content": sha256(built.wheel)}]
    _require_valid(text := json.dumps(bill, indent=2, ensure_ascii=False) + "\n")
    target.write_text(text, "utf-8")


def _require_valid(text: str) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    if (found := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
        raise ReleaseError(f"the bill of materials is no valid CycloneDX: {found!r:.500}")


def licences(bill: dict[str, Any]) -> dict[str, str]:
    """Component → the licences that it states, in words; "states no licence" for none."""
    found = {}
    for component in bill["components"]:
        stated = []
        for each in component.get("licenses", ()):
            licence = each.get("license", {})
            stated.append(each.get("expression") or licence.get("id") or licence.get("name", ""))
        words = "; ".join(dict.fromkeys(" ".join(word.split())[:60] for word in stated if word))
        found[component["name"]] = words or NAMELESS
    return dict(sorted(found.items()))


def require_licences(bill: dict[str, Any]) -> None:
    """Refuse an environment with a component that is under the GPL alone.

    Raises:
        ReleaseError: one is.
    """
    wrong = [
        f"{name} ({words})"
        for name, words in licences(bill).items()
        if REFUSED.search(LESSER.sub("", words)) and " OR " not in words
    ]
    if wrong:
        raise ReleaseError(f"what is required is under the GPL: {', '.join(wrong)}.")
