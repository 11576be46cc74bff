package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/launch"
)

// askTime bounds a question to an image.
const askTime = time.Minute

// Ask runs the image with args, in a container without network that is removed afterwards.
func (l *Launcher) Ask(ctx context.Context, to launch.Target, program engine.Program, b engine.Binary, args []string) (output string, err error) {
	c := to.Container
	r, err := l.runtime(ctx, c.RuntimeSocket)
	if err != nil {
		return "", err
	}
	r.removeAsked(ctx)
	limited, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	output, code, err := r.output(limited, client.ContainerCreateOptions{
		Config: &container.Config{
			Image: b.Path, Entrypoint: entrypoint(c, program.Image), Cmd: args, Env: entries(to.Env), User: c.User,
			Labels: map[string]string{labelAsked: strconv.FormatInt(time.Now().Unix(), 10)},
		},
		HostConfig: &container.HostConfig{
			NetworkMode: "none", LogConfig: r.logConfig(), Mounts: mounts(c.Volumes), SecurityOpt: []string{"no-new-privileges"},
		},
	})
	words := strings.Join(append([]string{b.Path}, args...), " ")
	switch {
	case err != nil:
		return "", explain(fmt.Errorf("cannot run %q: %w", words, errors.Join(context.Cause(limited), err)))
	case code != 0:
		lines := strings.Split(strings.TrimSpace(output), "\n")
		return "", fmt.Errorf("cannot run %q: exit code %d: %q", words, code, lines[len(lines)-1])
	}
	return output, nil
}

// entries are an environment as a runtime takes it.
func entries(env map[string]string) []string {
	var all []string
	for name, value := range env {
		all = append(all, name+"="+value)
	}
	return all
}

// output runs a container to its end and returns what it prints on both streams.
func (r *runtime) output(ctx context.Context, options client.ContainerCreateOptions) (text string, code int, err error) {
	created, err := r.api.ContainerCreate(ctx, options)
	if err != nil {
		return "", 0, err
	}
	defer func() { err = errors.Join(err, r.remove(context.WithoutCancel(ctx), created.ID)) }()
	if _, err := r.api.ContainerStart(ctx, created.ID, client.ContainerStartOptions{}); err != nil {
		return "", 0, err
	}
	wait := r.api.ContainerWait(ctx, created.ID, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	select {
	case end := <-wait.Result:
		code = int(end.StatusCode)
	case err := <-wait.Error:
		return "", 0, err
	}
	stream, err := r.api.ContainerLogs(ctx, created.ID, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		return "", 0, err
	}
	defer stream.Close()
	var out bytes.Buffer
	const limit = 1 << 20 // a help is 155 kB at most (vLLM)
	if _, err := stdcopy.StdCopy(&out, &out, io.LimitReader(stream, limit)); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", 0, err
	}
	return out.String(), code, nil
}

// removeAsked removes what a program left that was killed while it asked.
func (r *runtime) removeAsked(ctx context.Context) {
	filter := client.Filters{}.Add("label", labelAsked)
	list, err := r.api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filter})
	if err != nil {
		return // the question itself will fail, and say why
	}
	for _, c := range list.Items {
		began, err := strconv.ParseInt(c.Labels[labelAsked], 10, 64)
		if err == nil && time.Since(time.Unix(began, 0)) > 2*askTime { // whoever it is, its time is over
			_ = r.remove(ctx, c.ID)
		}
	}
}
