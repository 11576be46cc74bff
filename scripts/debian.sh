# Sourced by the scripts that obtain a llama-server from the distribution's archive, after they have set "script", their
# name, and "dir", their cache folder. The system is left as it is: the packages are unpacked in $dir, their own C library
# included, so that a build for Debian sid runs on Debian 12.
# shellcheck shell=sh disable=SC2154

cannot() { # cannot CAUSE WHAT-TO-DO
	echo "$script: cannot get llama-server: $1; $2" >&2
	exit 3
}
say() { echo "$script: $*" >&2; }

# use_cached ends the script if an earlier call has done its work.
use_cached() {
	if [ -x "$dir/llama-server" ]; then
		echo "$(cd "$dir" && pwd -P)/llama-server"
		exit 0
	fi
}

# unpack PACKAGE... unpacks packages and all that they depend on in $tmp/root.
unpack() {
	for tool in apt-get dpkg dpkg-deb; do
		command -v "$tool" >/dev/null 2>&1 ||
			cannot "\"$tool\" is missing" "on a system other than Debian or Ubuntu install llama.cpp and put llama-server in PATH"
	done

	mkdir -p "$dir"
	dir=$(cd "$dir" && pwd -P)
	# What a killed run left behind. An hour is longer than any run takes.
	find "$dir" -maxdepth 1 -name '.tmp.*' -mmin +60 -exec rm -rf {} +
	tmp=$(mktemp -d "$dir/.tmp.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM

	# apt with a life of its own: private sources and lists, and an empty package database, so that the whole closure of
	# dependencies is fetched rather than what this machine lacks. Proxies and keys of the system stay in force; its hooks
	# do not. Signatures are checked, but not their age, because a mirror may be a snapshot and sid's are good for a week
	# only.
	mkdir -p "$tmp/lists/partial" "$tmp/archives/partial" "$tmp/parts" "$tmp/root"
	: >"$tmp/status"
	cat >"$tmp/apt.conf" <<CONF
Dir::Etc::sourcelist "$tmp/sources.list";
Dir::Etc::sourceparts "$tmp/parts";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "$tmp/parts";
Dir::State::lists "$tmp/lists";
Dir::State::status "$tmp/status";
Dir::State::extended_states "$tmp/extended_states";
Dir::Cache "$tmp";
Dir::Cache::archives "$tmp/archives";
APT::Sandbox::User "$(id -un)";
APT::Architectures { "$(dpkg --print-architecture)"; };
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::Check-Valid-Until "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Debug::NoLocking "true";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
CONF

	# shellcheck disable=SC1091
	distribution=$(. /etc/os-release && echo "${ID:-} ${ID_LIKE:-}")
	case "$distribution" in
	ubuntu* | *" ubuntu"*) suites="devel" components="main universe" keys="ubuntu-archive-keyring" ;;
	*debian*) suites="sid forky" components="main" keys="debian-archive-keyring" ;;
	*) cannot "this is neither Debian nor Ubuntu" "install llama.cpp and put llama-server in PATH" ;;
	esac

	# The archive is the one that this machine already uses. --print-uris needs no package lists; images come without them.
	archives=$(apt-get update --print-uris 2>/dev/null |
		sed -n "s|^'\(.*\)/dists/[a-z]*/InRelease'.*|\1|p" | sort -u)
	[ -n "$archives" ] || cannot "apt has no sources" "add the distribution's archive to /etc/apt/sources.list"

	signed_by=
	for key in /usr/share/keyrings/$keys.gpg /usr/share/keyrings/$keys.pgp; do
		[ ! -r "$key" ] || signed_by="[signed-by=$key]"
	done

	download "$@"
	for deb in "$tmp"/archives/*.deb; do
		dpkg-deb -x "$deb" "$tmp/root"
	done
	version=$(dpkg-deb -f "$tmp"/archives/llama.cpp-tools_*.deb Version)
	final=$dir/$(echo "$version" | tr -c 'A-Za-z0-9.+~\n' _)-$(dpkg --print-architecture)
	packages=$(for deb in "$tmp"/archives/*.deb; do dpkg-deb --showformat='${Package}=${Version} ' -W "$deb"; done)

	# One loader for this architecture; its usual name is a link in some releases and the file itself in others.
	loader=$(find "$tmp/root" -type f \( -name 'ld-linux*.so.*' -o -name 'ld64.so.*' \) | head -n 1)
	server=$(find "$tmp/root/usr/bin" -type f -name llama-server)
	backends=$(find "$tmp/root" -type d -path '*/ggml/backends0')
	if [ -z "$loader" ] || [ -z "$server" ] || [ -z "$backends" ]; then
		say "cannot use llama.cpp-tools $version: it lacks a loader, llama-server or the ggml backends; put a llama-server in PATH"
		exit 1
	fi
	libdir=$(dirname "$loader")
	# ggml looks for its backends beside the running executable, which for the kernel is the loader.
	(cd "$libdir" && ln -sf ggml/backends0/* .)
}

# download PACKAGE... fills $tmp/archives from the first suite of the first archive that offers them all.
download() {
	private_apt() { apt-get -q -c "$tmp/apt.conf" "$@"; }
	for suite in $suites; do
		for archive in $archives; do
			say "looking in $suite of $archive"
			echo "deb $signed_by $archive $suite $components" >"$tmp/sources.list"
			if private_apt update -o APT::Update::Error-Mode=any >"$tmp/log" 2>&1 &&
				private_apt install --download-only -y "$@" >>"$tmp/log" 2>&1; then
				return 0
			fi
			cat "$tmp/log" >>"$tmp/log.all"
		done
	done
	grep '^[EW]:' "$tmp/log.all" | sort -u | sed 's/^/  /' >&2 || true
	cannot "no archive offers the package \"$1\"" "check the network, or install llama.cpp and put llama-server in PATH"
}

# unpacked_server ARGUMENT... runs what is in $tmp/root.
unpacked_server() { "$loader" --library-path "$libdir:$libdir/llama" "$server" "$@"; }

# refuse says what the server has said to $tmp/log, and gives up.
refuse() { # refuse REASON
	sed 's/^/  /' "$tmp/log" >&2
	say "cannot use llama.cpp-tools $version: $1; put a llama-server in PATH"
	exit 1
}

# inside PATH is where a path of $tmp/root is in the end.
inside() { echo "$final${1#"$tmp/root"}"; }

# keep moves the packages to their place, writes a wrapper that runs the server after LINEs of shell, and prints its path.
keep() { # keep [LINE]...
	# The rename decides which of two runs at once wins; the loser's copy is thrown away, being the same.
	mv -T "$tmp/root" "$final" 2>/dev/null || [ -d "$final" ]
	libdir=$(inside "$libdir")
	# The versions stand in the wrapper because its digest names what is cached about the executable.
	# exec keeps the process id, so that whoever started the wrapper holds the server itself.
	{
		echo "#!/bin/sh"
		echo "# llama.cpp-tools $version, unpacked by scripts/$script"
		echo "# $packages"
		for line in "$@"; do echo "$line"; done
		echo "exec '$(inside "$loader")' --library-path '$libdir:$libdir/llama' '$(inside "$server")' \"\$@\""
	} >"$tmp/llama-server"
	chmod 755 "$tmp/llama-server"
	mv -f "$tmp/llama-server" "$dir/llama-server"
	say "llama.cpp-tools $version is in $final"
	echo "$dir/llama-server"
}
