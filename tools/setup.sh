#!/bin/sh
# Install both locks by hash, and the members given, editable, into .venv.
# Needs Python 3.11 to 3.13 and pip; uv, when it is missing, is put into .tools at the version and hash of the lock.
set -eu
cd "$(dirname "$0")/.."

fits='import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'
candidates="${PYTHON:-} python3.11 python3.12 python3.13 python3 /usr/bin/python3"

works() {
    "$1" -c "$fits" > /dev/null 2>&1
}

for name in $candidates; do
    if works "$name"; then
        python=$name
        break
    fi
done
if [ -z "${python:-}" ]; then
    echo "setup: no Python 3.11 to 3.13 found; install one, or say where it is: make setup PYTHON=/path/to/python3" >&2
    exit 1
fi

# A name on the PATH may be a shim of some version manager that does not run.
if uv --version > /dev/null 2>&1; then
    uv=uv
else
    uv=.tools/bin/uv
fi
if ! $uv --version > /dev/null 2>&1; then
    rm -rf .tools
    if ! "$python" -m venv .tools > /dev/null 2>&1; then
        rm -rf .tools
        "$python" -m pip --version > /dev/null
    fi
    mkdir -p .tools
    sed -n '/^uv==/,/[^\\]$/p' requirements-dev.lock > .tools/uv.txt
    if [ -x .tools/bin/python ]; then
        .tools/bin/python -m pip install --quiet --root-user-action=ignore --require-hashes -r .tools/uv.txt
    else
        "$python" -m pip install --quiet --root-user-action=ignore --require-hashes --target .tools -r .tools/uv.txt
    fi
fi

export UV_PYTHON_DOWNLOADS=never
if ! works .venv/bin/python; then
    $uv venv --quiet --clear --python "$(command -v "$python")" .venv
fi

names=" "
editables=""
for member in "$@"; do
    names="$names$(sed -n 's/^name = "\(.*\)"$/\1/p' "$member/pyproject.toml" | head -n 1) "
    editables="$editables -e $member"
done

# A plugin whose folder is gone must not stay behind as a broken one.
for installed in $($uv pip list --python .venv/bin/python --editable --format freeze 2> /dev/null | sed 's/[= @].*//'); do
    case $names in
        *" $installed "*) ;;
        *) $uv pip uninstall --quiet --python .venv/bin/python "$installed" ;;
    esac
done

# Compiled here once: where the environment forbids Python to write bytecode, each process would compile all it imports.
$uv pip install --quiet --python .venv/bin/python --compile-bytecode --require-hashes \
    -r requirements.lock -r requirements-dev.lock
# shellcheck disable=SC2086  # one word for each member
$uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation $editables
