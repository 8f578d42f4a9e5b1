# Sourced by scripts/run and scripts/test: sets $root, and prepares the environment in $root/.venv.

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
python=$root/.venv/bin/python

# Without bytecode every start of Python compiles every module anew.
unset PYTHONDONTWRITEBYTECODE

say() { printf '%s\n' "flowgraph: $*" >&2; }

# Prints the first Python that is new enough and can make environments.
find_python() {
    local name found=""
    for name in python3 python3.13 python3.12 python3.11; do
        command -v "$name" >/dev/null || continue
        "$name" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        "$name" -I -c 'import ensurepip, venv' 2>/dev/null && { command -v "$name"; return; }
        found=$name
    done
    if [ -n "$found" ]; then
        say "$found has no module venv or ensurepip. Install them (Debian and Ubuntu: the package $found-venv)."
    else
        say "Python 3.11 or newer is needed, and none of python3, python3.13, python3.12, python3.11 is that."
    fi
    return 1
}

# Prints what the installation depends on: the interpreter, the place and pyproject.toml. Fails if .venv does not run.
fingerprint() {
    "$python" -I -S -c '
import hashlib, pathlib, sys
root = pathlib.Path(sys.argv[1])
print(sys.version_info[:3], hashlib.sha256((root / "pyproject.toml").read_bytes()).hexdigest(), ascii(root))
' "$root" 2>/dev/null
}

# Is flowgraph installed with the extras $1, for the interpreter, the place and the pyproject.toml of now?
installed() {
    local now
    now=$(fingerprint) && [ "$(cat "$root/.venv/flowgraph-$1" 2>/dev/null)" = "$now" ]
}

# Makes the environment if there is none, and installs flowgraph with the extras $1 (all or test) into it.
install() {
    if [ ! -e "$python" ]; then
        local base
        base=$(find_python) || return
        say "making .venv with $("$base" --version)"
        "$base" -I -m venv --clear "$root/.venv" >&2 || return
    fi
    if ! "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        say "the Python in .venv does not run, or is older than 3.11. Remove the folder and try again: $root/.venv"
        return 1
    fi
    "$python" -I -m pip --version >/dev/null 2>&1 || "$python" -I -m ensurepip >/dev/null || return
    say "installing flowgraph[$1] into .venv, which can take a minute"
    rm -f "$root"/.venv/flowgraph-*
    # These settings of pip send an installation elsewhere or leave parts of it out. The others (index, proxy,
    # certificates, constraints) are the user's own.
    env -u PIP_USER -u PIP_TARGET -u PIP_PREFIX -u PIP_ROOT -u PIP_PYTHON -u PIP_DRY_RUN -u PIP_NO_DEPS \
        -u PIP_REQUIRE_HASHES -u PIP_NO_BUILD_ISOLATION \
        "$python" -I -m pip install --quiet --quiet --disable-pip-version-check --editable "$root[$1]" >&2 || {
        say "the installation failed; pip's messages are above"
        return 1
    }
    fingerprint >"$root/.venv/flowgraph-$1"
    [ "$1" != test ] || fingerprint >"$root/.venv/flowgraph-all" # test includes all
}

# The same as install, but only if something changed, and one process at a time.
prepare() {
    installed "$1" && return
    if command -v flock >/dev/null; then
        (
            flock --nonblock 9 || { say "waiting for another installation" && flock 9; }
            installed "$1" || install "$1"
        ) 9>"$root/.venv.lock"
    else
        install "$1"
    fi
}
