#!/bin/sh
# Kills managers, stops engines and breaks state directories many times; RELIABILITY.md explains the counts.
# CHAOS_ROUNDS is how many managers' lives, CHAOS_CYCLES how many starts and stops, CHAOS_REAL how many with llama-server.
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh
provide_llama_server
CHAOS_ROUNDS="${CHAOS_ROUNDS:-5000}" CHAOS_CYCLES="${CHAOS_CYCLES:-1000}" CHAOS_REAL="${CHAOS_REAL:-50}" \
	go test -run TestChaos -count=1 -timeout 60m -v .
