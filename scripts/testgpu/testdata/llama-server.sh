#!/bin/sh
# A stand-in for a CUDA build of llama-server: @FAKE@ with what CUDA adds. What it holds of the GPU is told in @HELD@.
case " $* " in *" --version "* | *" --help "*) exec @FAKE@ "$@" ;; esac
visible=${CUDA_VISIBLE_DEVICES-all}
case " $* " in
*" --list-devices "*)
	echo "Available devices:"
	if [ -n "$visible" ]; then
		echo "  CUDA0: NVIDIA H200 (143771 MiB, 143000 MiB free)"
	else
		echo "  (none)"
	fi
	exit 0
	;;
esac
if [ -z "$visible" ]; then
	echo "warning: no usable GPU found, --gpu-layers option will be ignored" >&2
	exec @FAKE@ "$@"
fi
device=CUDA0
case " $* " in *" --device none "* | *"=CPU "*) device=CPU_Mapped ;; esac
if [ $device = CUDA0 ]; then
	held=0
	for file in @HELD@/*; do
		read -r mib since <"$file" || continue
		[ "$since" != "$(cut -d' ' -f22 "/proc/${file##*/}/stat" 2>/dev/null)" ] || held=$((held + mib))
	done
	needs=300
	case " $* " in *" 1000000 "*) needs=17000 ;; esac
	if [ $((held + needs)) -gt 143771 ]; then
		echo "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 92.10 MiB on device 0: cudaMalloc failed: out of memory" >&2
		exit 1
	fi
	echo "90 $(cut -d' ' -f22 /proc/$$/stat)" >@HELD@/$$
fi
case " $* " in
*" --verbosity 3 "*) ;;
*)
	echo "llama_prepare_model_devices: using device CUDA0 (NVIDIA H200) (@BUS@) - 143000 MiB free" >&2
	echo "load_tensors: offloaded 9/9 layers to GPU" >&2
	echo "load_tensors:        $device model buffer size =    92.10 MiB" >&2
	;;
esac
exec @FAKE@ "$@"
