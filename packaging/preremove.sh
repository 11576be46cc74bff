#!/bin/sh
# An upgrade stops nothing. The first argument is "remove" of dpkg, and 0 of rpm, where the package goes for good.
case $1 in
remove | 0) [ ! -d /run/systemd/system ] || systemctl disable --now engine-provisioner.service || true ;;
esac
