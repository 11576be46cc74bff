#!/bin/sh
# A stand-in for hold.cu.
echo "$1" >@HELD@/$$
echo "holding $1 MiB"
exec sleep 600
