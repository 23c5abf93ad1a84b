// The functions of tests/sdks.rs, written with StateFun's Go SDK 3.3.0 as it is published. Usage: functions PORT
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/apache/flink-statefun/statefun-sdk-go/v3/pkg/statefun"
)

var (
	counter = statefun.TypeNameFrom("sdk/counter")
	mirror  = statefun.TypeNameFrom("sdk/mirror")
	out     = statefun.TypeNameFrom("sdk/out")
	generic = statefun.TypeNameFrom("sdk/generic")
	day     = 24 * time.Hour

	count = statefun.ValueSpec{Name: "count", ValueType: statefun.Int32Type, Expiration: statefun.ExpireAfterWrite(day)}
	last  = statefun.ValueSpec{Name: "last", ValueType: statefun.StringType, Expiration: statefun.ExpireAfterCall(day)}
	told  = statefun.ValueSpec{Name: "count", ValueType: statefun.Int32Type}
)

// A type of one's own: here a number in decimal digits.
type digits struct{}

func (digits) GetTypeName() statefun.TypeName { return statefun.TypeNameFrom("sdk/digits") }

func (digits) Serialize(writer io.Writer, data interface{}) error {
	_, err := fmt.Fprint(writer, data)
	return err
}

func (digits) Deserialize(reader io.Reader, receiver interface{}) error {
	_, err := fmt.Fscan(reader, receiver)
	return err
}

func countOnce(ctx statefun.Context, message statefun.Message) error {
	var number int32
	ctx.Storage().Get(count, &number)
	number++
	ctx.Storage().Set(count, number)
	text := message.AsString()
	ctx.Storage().Set(last, text)
	id := ctx.Self().Id
	ctx.SendEgress(&statefun.KafkaEgressBuilder{Target: out, Topic: "out/" + id, Value: fmt.Sprintf("%d %s", number, text)})
	tell := func() statefun.MessageBuilder {
		return statefun.MessageBuilder{Target: statefun.Address{FunctionType: mirror, Id: "m" + id}, Value: number, ValueType: statefun.Int32Type}
	}
	ctx.Send(tell())
	if number%3 == 0 {
		ctx.SendAfter(20*time.Millisecond, tell())
	}
	// What is never to come: it is cancelled by the next message.
	token := func(number int32) statefun.CancellationToken {
		token, err := statefun.NewCancellationToken(fmt.Sprintf("%s-%d", id, number))
		if err != nil {
			panic(err)
		}
		return token
	}
	if 1 < number {
		ctx.CancelDelayedMessage(token(number - 1))
	}
	ctx.SendAfterWithCancellationToken(30*day, token(number), tell())
	if number%5 == 0 {
		ctx.SendEgress(&statefun.GenericEgressBuilder{Target: generic, Value: number, ValueType: digits{}})
	}
	return nil
}

func mirrorOnce(ctx statefun.Context, message statefun.Message) error {
	if !message.IsInt32() {
		return fmt.Errorf("no int")
	}
	var number int32
	ctx.Storage().Get(told, &number)
	number++
	ctx.Storage().Set(told, number)
	ctx.SendEgress(&statefun.KafkaEgressBuilder{Target: out, Topic: "out/" + ctx.Self().Id, Value: fmt.Sprintf("%d %d", number, number)})
	return nil
}

func main() {
	builder := statefun.StatefulFunctionsBuilder()
	for _, spec := range []statefun.StatefulFunctionSpec{
		{FunctionType: counter, States: []statefun.ValueSpec{count, last}, Function: statefun.StatefulFunctionPointer(countOnce)},
		{FunctionType: mirror, States: []statefun.ValueSpec{told}, Function: statefun.StatefulFunctionPointer(mirrorOnce)},
	} {
		if err := builder.WithSpec(spec); err != nil {
			panic(err)
		}
	}
	port, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	panic(http.ListenAndServe(fmt.Sprintf("127.0.0.1:%d", port), builder.AsHandler()))
}
