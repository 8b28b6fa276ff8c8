// Workflows written with Hatchet's Go SDK. Run by tests/compat/test_go.py.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	v0Client "github.com/hatchet-dev/hatchet/pkg/client"
	"github.com/hatchet-dev/hatchet/pkg/client/types"
	"github.com/hatchet-dev/hatchet/pkg/cmdutils"
	hatchet "github.com/hatchet-dev/hatchet/sdks/go"
	"github.com/hatchet-dev/hatchet/sdks/go/features"
)

type Number struct {
	N int `json:"n"`
}

type Results struct {
	Results []int `json:"results"`
	Retry   int   `json:"retry"`
}

type Text struct {
	Text string `json:"text"`
}

type User struct {
	User string `json:"user"`
}

type Nothing struct{}

func note(file string, text string) {
	path := filepath.Join(os.Getenv("HATCHET_TEST_DIRECTORY"), file)
	out, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		log.Fatal(err)
	}
	defer out.Close()
	fmt.Fprintln(out, text)
}

func children(ctx hatchet.Context, child *hatchet.StandaloneTask) ([]int, error) {
	results := make([]int, 3)
	for n := range results {
		answer, err := child.Run(ctx, Number{N: n}, hatchet.WithRunKey(fmt.Sprintf("child%d", n)))
		if err != nil {
			return nil, err
		}
		var output Number
		if err := answer.Into(&output); err != nil {
			return nil, err
		}
		results[n] = output.N
	}
	return results, nil
}

func main() {
	client, err := hatchet.NewClient()
	if err != nil {
		log.Fatal(err)
	}
	one := int32(1)
	inTurns := types.GroupRoundRobin
	child := client.NewStandaloneTask("go-child", func(ctx hatchet.Context, input Number) (Number, error) {
		note("go-children", fmt.Sprint(input.N))
		return Number{N: input.N * 2}, nil
	})
	parent := client.NewStandaloneTask("go-parent", func(ctx hatchet.Context, input Nothing) (Results, error) {
		results, err := children(ctx, child)
		if err != nil {
			return Results{}, err
		}
		if ctx.RetryCount() == 0 {
			return Results{}, errors.New("once more")
		}
		return Results{Results: results, Retry: ctx.RetryCount()}, nil
	}, hatchet.WithRetries(1))
	onEvent := client.NewStandaloneTask("go-event", func(ctx hatchet.Context, input Text) (Text, error) {
		return Text{Text: input.Text + " " + fmt.Sprint(ctx.FilterPayload()["to"])}, nil
	}, hatchet.WithWorkflowEvents("go:*"), hatchet.WithDefaultFilters(types.DefaultFilter{
		Expression: "input.text == 'hello'", Scope: "tests", Payload: map[string]interface{}{"to": "ada"},
	}))
	onCron := client.NewStandaloneTask("go-cron", func(ctx hatchet.Context, input Nothing) (Nothing, error) {
		return Nothing{}, nil
	}, hatchet.WithWorkflowCron("30 6 * * MON-FRI"))
	limited := client.NewStandaloneTask("go-limited", func(ctx hatchet.Context, input User) (Nothing, error) {
		note("go-limited", "begin "+input.User)
		time.Sleep(300 * time.Millisecond)
		note("go-limited", "end "+input.User)
		return Nothing{}, nil
	}, hatchet.WithWorkflowConcurrency(types.Concurrency{
		Expression: "input.user", MaxRuns: &one, LimitStrategy: &inTurns,
	}))

	same := client.NewStandaloneTask("go-same", func(ctx hatchet.Context, input User) (Nothing, error) {
		return Nothing{}, nil
	}, hatchet.WithWorkflowIdempotency(hatchet.IdempotencyConfig{Expression: "input.user", TTL: 5 * time.Minute}))

	two := 2
	counted := client.NewStandaloneTask("go-counted", func(ctx hatchet.Context, input Nothing) (Nothing, error) {
		return Nothing{}, nil
	}, hatchet.WithRateLimits(&types.RateLimit{Key: "go-calls", Units: &two}))
	stuck := client.NewWorkflow("go-stuck", hatchet.WithWorkflowStickyStrategy(types.StickyStrategy_HARD),
		hatchet.WithWorkflowDefaultPriority(features.RunPriorityHigh))
	first := stuck.NewTask("first", func(ctx hatchet.Context, input Nothing) (Text, error) {
		return Text{Text: ctx.Worker().ID()}, nil
	})
	stuck.NewTask("second", func(ctx hatchet.Context, input Nothing) (Text, error) {
		return Text{Text: ctx.Worker().ID()}, nil
	}, hatchet.WithParents(first))

	if os.Args[1] == "twice" {
		askTwice(same)
		return
	}
	if os.Args[1] == "later" {
		askLater(client, child)
		return
	}
	if os.Args[1] == "worker" {
		limit := features.CreateRatelimitOpts{Key: "go-calls", Limit: 4, Duration: types.Hour}
		if err := client.RateLimits().Upsert(limit); err != nil {
			log.Fatal(err)
		}
		worker, err := client.NewWorker("golang",
			hatchet.WithWorkflows(child, parent, onEvent, onCron, limited, same, counted, stuck), hatchet.WithSlots(10),
			hatchet.WithLabels(map[string]any{"model": "large"}))
		if err != nil {
			log.Fatal(err)
		}
		ctx, cancel := cmdutils.NewInterruptContext()
		defer cancel()
		if err := worker.StartBlocking(ctx); err != nil {
			log.Fatal(err)
		}
		return
	}
	ask(client, parent)
}

func askTwice(same *hatchet.StandaloneTask) {
	ctx := context.Background()
	first, err := same.RunNoWait(ctx, User{User: "ada"})
	if err != nil {
		log.Fatal(err)
	}
	_, err = same.RunNoWait(ctx, User{User: "ada"})
	collision, ok := hatchet.IsIdempotencyCollisionError(err)
	if !ok {
		log.Fatalf("no collision: %v", err)
	}
	told := map[string]string{"first": first.RunId, "existing": collision.ExistingRunExternalId}
	if err := json.NewEncoder(os.Stdout).Encode(told); err != nil {
		log.Fatal(err)
	}
}

func askLater(client *hatchet.Client, child *hatchet.StandaloneTask) {
	ctx := context.Background()
	medium := features.RunPriorityMedium
	made, err := client.Schedules().Create(ctx, "go-child", features.CreateScheduledRunTrigger{
		TriggerAt: time.Now().Add(2 * time.Second), Input: map[string]any{"n": 7}, Priority: &medium,
	})
	if err != nil {
		log.Fatal(err)
	}
	run, err := child.RunNoWait(ctx, Number{N: 8}, hatchet.WithRunPriority(features.RunPriorityLow))
	if err != nil {
		log.Fatal(err)
	}
	told := map[string]string{"later": made.Metadata.Id, "low": run.RunId}
	if err := json.NewEncoder(os.Stdout).Encode(told); err != nil {
		log.Fatal(err)
	}
}

func ask(client *hatchet.Client, parent *hatchet.StandaloneTask) {
	ctx := context.Background()
	scope := "tests"
	for _, text := range []string{"hello", "goodbye"} {
		if err := client.Events().Push(ctx, "go:said", Text{Text: text}, v0Client.WithFilterScope(&scope)); err != nil {
			log.Fatal(err)
		}
	}
	answer, err := parent.Run(ctx, Nothing{})
	if err != nil {
		log.Fatal(err)
	}
	var output Results
	if err := answer.Into(&output); err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(output); err != nil {
		log.Fatal(err)
	}
}
