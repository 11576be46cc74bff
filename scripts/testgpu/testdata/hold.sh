#!/bin/sh
# A stand-in for hold.cu.
echo "$1 $(cut -d' ' -f22 /proc/$$/stat)" >@HELD@/$$
echo "holding $1 MiB"
exec sleep 600
