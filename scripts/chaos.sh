#!/bin/sh
# Kills managers, stops engines and breaks state directories many times; RELIABILITY.md explains the counts.
# CHAOS_ROUNDS is how many managers' lives, CHAOS_CYCLES how many starts and stops, CHAOS_REAL how many with llama-server,
# CHAOS_LOAD how many with more clients than it can answer (ten minutes each), CHAOS_MISTAKES how often each of the things that
# people do to engines and files, CHAOS_HOLDS how many managers that are killed over a hold.
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh
provide_llama_server
CHAOS_ROUNDS="${CHAOS_ROUNDS:-5000}" CHAOS_CYCLES="${CHAOS_CYCLES:-1000}" CHAOS_REAL="${CHAOS_REAL:-50}" \
	CHAOS_LOAD="${CHAOS_LOAD:-5}" CHAOS_MISTAKES="${CHAOS_MISTAKES:-100}" CHAOS_HOLDS="${CHAOS_HOLDS:-100}" \
	go test -run TestChaos -count=1 -parallel 8 -timeout 120m -v . ./fleet
