#!/bin/sh
# A stand-in for a build of llama-server for Vulkan: @FAKE@ with what Vulkan adds.
case " $* " in
*" --version "* | *" --help "*) exec @FAKE@ "$@" ;;
*" --list-devices "*)
	echo "Available devices:"
	echo "  Vulkan0: NVIDIA H200 (143771 MiB, 143000 MiB free)"
	exit 0
	;;
esac
echo "90 $(cut -d' ' -f22 /proc/$$/stat)" >@HELD@/$$
echo "llama_prepare_model_devices: using device Vulkan0 (NVIDIA H200) (@BUS@) - 143000 MiB free" >&2
echo "load_tensors: offloaded 9/9 layers to GPU" >&2
echo "load_tensors:      Vulkan0 model buffer size =    92.10 MiB" >&2
exec @FAKE@ "$@"
