"""GitHub's composite actions and GitLab's job scripts, as far as ours use them, run as those services run them.

Steps that `use` another action are not run. setup-python gives this interpreter; upload-artifact copies its path.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")


@dataclass
class ActionRun:
    """A composite action in a workspace, with everything it leaves behind."""

    action: Path
    workspace: Path
    temporary: Path
    inputs: dict[str, str]
    without: frozenset[str] = frozenset()
    """Names of steps that an earlier run on the same runner has done."""
    code: int = 0
    text: str = ""
    summary: str = ""
    steps: dict[str, dict[str, str]] = field(default_factory=dict)
    artifacts: dict[str, Path] = field(default_factory=dict)

    def value(self, text: str) -> str:
        """A string with its expressions put in."""

        def one(found: re.Match[str]) -> str:
            match found[1].split("."):
                case ["inputs", name]:
                    return self.inputs[name]
                case ["runner", "temp"]:
                    return str(self.temporary)
                case ["github", "action_path"]:
                    return str(self.action.parent)
                case ["steps", step, "outputs", name]:
                    return self.steps.get(step, {}).get(name, "")
            raise ValueError(f"unknown expression {found[0]}")

        return EXPRESSION.sub(one, text)

    def wanted(self, condition: str) -> bool:
        """Whether a step with this condition runs."""
        if not condition:
            return self.code == 0
        known = {"always()": True, "always() && inputs.artifact != ''": self.inputs.get("artifact") != ""}
        return known[condition]

    def run(self) -> None:
        """Run every step; a failed one ends the job but for steps that always run."""
        document = yaml.safe_load(self.action.read_text())
        for name, declared in document["inputs"].items():
            self.inputs.setdefault(name, str(declared.get("default", "")))
        for step in document["runs"]["steps"]:
            if step.get("name") in self.without or not self.wanted(step.get("if", "")):
                continue
            if "uses" in step:
                self._use(step)
            else:
                self._shell(step)
        self.outputs = {name: self.value(output["value"]) for name, output in document["outputs"].items()}

    def _use(self, step: dict[str, Any]) -> None:
        match step["uses"].split("@")[0]:
            case "actions/setup-python":
                self.steps[step["id"]] = {"python-path": sys.executable}
            case "actions/upload-artifact":
                path, name = Path(self.value(step["with"]["path"])), self.value(step["with"]["name"])
                if path.exists():
                    self.artifacts[name] = self.temporary / f"artifact-{name}"
                    shutil.copytree(path, self.artifacts[name])
            case other:
                raise ValueError(f"an action that this runner does not know: {other}")

    def _shell(self, step: dict[str, Any]) -> None:
        assert step["shell"] == "bash"
        script, output, summary = (self.temporary / name for name in ("step.sh", "output", "summary"))
        script.write_text(self.value(step["run"]))
        output.write_text("")
        summary.write_text("")
        environment = {
            **os.environ,
            **{name: self.value(str(value)) for name, value in step.get("env", {}).items()},
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(summary),
            "GITHUB_WORKSPACE": str(self.workspace),
            "RUNNER_TEMP": str(self.temporary),
        }
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(script)],
            cwd=self.workspace,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        self.text += done.stdout + done.stderr
        self.summary += summary.read_text()
        if "id" in step:
            pairs = (line.split("=", 1) for line in output.read_text().splitlines())
            self.steps[step["id"]] = dict(pairs)
        self.code = self.code or done.returncode


def run_gitlab_job(
    template: Path, job: str, workspace: Path, variables: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """A job's script, line after line in one shell that stops at the first failure."""
    document = yaml.safe_load(template.read_text())[job]
    known = {name: str(value) for name, value in document["variables"].items()}
    script = "set -eo pipefail\n" + "\n".join(document["script"])
    return subprocess.run(
        ["bash", "-c", script],
        cwd=workspace,
        env={**os.environ, **known, **variables, "CI_PROJECT_DIR": str(workspace)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
