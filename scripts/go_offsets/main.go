// Prints where fields lie that otel-ebpf reads in Go programs, as JSON, from the DWARF of an executable: its own, or the
// one that is named. Of what an executable does not have, nothing is said.
package main

import (
	"debug/dwarf"
	"debug/elf"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
)

// name in the table: struct and field, or struct alone for its size
var wanted = map[string][2]string{
	"g_m":               {"runtime.g", "m"},
	"g_goid":            {"runtime.g", "goid"},
	"g_parent":          {"runtime.g", "parentGoid"},
	"g_start":           {"runtime.g", "startpc"},
	"m_g0":              {"runtime.m", "g0"},
	"m_curg":            {"runtime.m", "curg"},
	"g_sched":           {"runtime.g", "sched"},
	"gobuf_bp":          {"runtime.gobuf", "bp"},
	"sudog_select":      {"runtime.sudog", "isSelect"},
	"chan_elemtype":     {"runtime.hchan", "elemtype"},
	"chan_recvx":        {"runtime.hchan", "recvx"},
	"chan_recvq":        {"runtime.hchan", "recvq"},
	"conn_reqch":        {"net/http.persistConn", "reqch"},
	"request_chan":      {"net/http.requestAndChan", "ch"},
	"request_size":      {"net/http.requestAndChan", ""},
	"fixed_stack_hi":    {"runtime.stack", "hi"},
	"fixed_chan_size":   {"runtime.hchan", "dataqsiz"},
	"fixed_chan_buffer": {"runtime.hchan", "buf"},
	"fixed_chan_item":   {"runtime.hchan", "elemsize"},
	"fixed_sudog_g":     {"runtime.sudog", "g"},
	"fixed_first":       {"runtime.waitq", "first"},
	"fixed_stack":       {"runtime.g", "stack"},

	// of grpc-go; the last release of all had other names for some
	"stream_id":            {transport + "Stream", "id"},
	"stream_transport":     {transport + "Stream", "st"},
	"stream_inside":        {transport + "ServerStream", "Stream"},
	"server_transport":     {transport + "ServerStream", "st"},
	"fixed_header_stream":  {transport + "headerFrame", "streamID"},
	"fixed_header_fields":  {transport + "headerFrame", "hf"},
	"fixed_request_stream": {transport + "clientHeaders", "streamID"},
	"fixed_request_fields": {transport + "clientHeaders", "hf"},
}

const transport = "google.golang.org/grpc/internal/transport."

func main() {
	if len(os.Args) > 9 { // links what the table is about
		http.Get("")
		http.ListenAndServe("", nil)
	}
	path := "/proc/self/exe"
	if len(os.Args) > 1 {
		path = os.Args[1]
	}
	offsets, err := read(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(offsets)
}

func read(path string) (map[string]int64, error) {
	file, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := file.DWARF()
	if err != nil {
		return nil, err
	}
	offsets := map[string]int64{}
	reader := data.Reader()
	for {
		entry, err := reader.Next()
		if err != nil {
			return nil, err
		}
		if entry == nil {
			return offsets, nil
		}
		if entry.Tag == dwarf.TagCompileUnit {
			continue
		}
		reader.SkipChildren()
		name, _ := entry.Val(dwarf.AttrName).(string)
		if entry.Tag != dwarf.TagStructType {
			continue
		}
		for key, place := range wanted {
			if place[0] != name {
				continue
			}
			kind, err := data.Type(entry.Offset)
			if err != nil {
				return nil, err
			}
			structure := kind.(*dwarf.StructType)
			if place[1] == "" {
				offsets[key] = structure.ByteSize
			}
			for _, field := range structure.Field {
				if field.Name == place[1] {
					offsets[key] = field.ByteOffset
					if _, pointer := field.Type.(*dwarf.PtrType); pointer && key == "stream_inside" {
						offsets["stream_pointer"] = 1
					}
				}
			}
		}
	}
}
