//go:build tools

// Package peers pins the released OP Stack programs that a devnet runs: `go mod tidy` keeps what they need in go.mod.
package peers

import (
	_ "github.com/ethereum-optimism/optimism/op-batcher/cmd"
	_ "github.com/ethereum-optimism/optimism/op-conductor/cmd"
	_ "github.com/ethereum-optimism/optimism/op-node/cmd"
	_ "github.com/ethereum/go-ethereum/cmd/geth"
)
