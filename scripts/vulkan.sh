#!/bin/sh
# Obtains a llama-server whose GPU is the processor: its backend for Vulkan with Mesa's llvmpipe, a driver for Vulkan in
# software, from the distribution's archive (90 MB, 430 MB on the disk). It prints the path of an executable that runs it.
#
#	scripts/vulkan.sh [DIR]
#
# DIR is a cache folder, by default ~/.cache/engine-provisioner/vulkan, in which the packages are unpacked; the system is
# left as it is, and its own drivers are not used. Shaders that were compiled once are kept there too. The backend passes
# over llvmpipe, which calls itself a CPU, unless GGML_VK_VISIBLE_DEVICES names it. Where that is not set it is 0 here, so
# that the device is there as another GPU is; "0,0" makes two of it, and empty hides it. A second call only prints the path.
# Exit status: 0 done, 3 cannot be had on this machine, 1 else.
set -eu

script=vulkan.sh
dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/engine-provisioner/vulkan}
. "$(dirname "$0")/debian.sh"

use_cached
unpack llama.cpp-tools libggml0-backend-vulkan mesa-vulkan-drivers
driver=$(find "$tmp/root/usr/share/vulkan/icd.d" -name 'lvp_icd*.json')
VK_DRIVER_FILES="$driver" GGML_VK_VISIBLE_DEVICES=0 unpacked_server --list-devices >"$tmp/log" 2>&1 &&
	grep -q ' Vulkan0: llvmpipe ' "$tmp/log" || refuse "it does not list llvmpipe as a device"
mkdir -p "$dir/shaders"
keep "export VK_DRIVER_FILES=\"\${VK_DRIVER_FILES-$(inside "$driver")}\"" \
	"export GGML_VK_VISIBLE_DEVICES=\"\${GGML_VK_VISIBLE_DEVICES-0}\"" \
	"export MESA_SHADER_CACHE_DIR=\"\${MESA_SHADER_CACHE_DIR-$dir/shaders}\""
