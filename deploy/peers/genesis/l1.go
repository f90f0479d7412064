package main

import (
	"flag"
	"fmt"
	"math/big"

	"github.com/ethereum-optimism/optimism/op-node/node/runcfg"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/params"
)

const (
	l1ChainID  = 900
	l1GasLimit = 30_000_000 // anvil has its own flag for it
)

func writeL1(args []string) error {
	flags := flag.NewFlagSet("genesis l1", flag.ExitOnError)
	out := flags.String("out", ".", "directory to write to")
	time := flags.Uint64("time", 0, "timestamp of L1 block 0, seconds since 1970")
	chains, funded := signers{}, addresses{}
	flags.Var(chains, "chain", "id of an L2 chain, = and its unsafe block signer; once for each")
	flags.Var(&funded, "fund", "accounts that get a million ETH, separated by commas")
	if err := parse(flags, args); err != nil {
		return err
	}
	if len(chains) == 0 {
		return fmt.Errorf("no -chain")
	}

	alloc := types.GenesisAlloc{}
	fund(alloc, funded)
	for id, signer := range chains {
		alloc[portal(id)] = types.Account{Balance: common.Big0, Code: portalCode()}
		alloc[systemConfig(id)] = types.Account{
			Balance: common.Big0,
			Code:    systemConfigCode(),
			Storage: map[common.Hash]common.Hash{
				runcfg.UnsafeBlockSignerAddressSystemConfigStorageSlot: common.BytesToHash(signer[:]),
			},
		}
	}
	config := l1Config()
	genesis := map[string]any{
		"config":        config,
		"alloc":         alloc,
		"timestamp":     hexutil.Uint64(*time),
		"gasLimit":      hexutil.Uint64(l1GasLimit),
		"baseFeePerGas": hexutil.Uint64(params.GWei),
		"difficulty":    "0x0",
		"extraData":     "0x",
		"nonce":         "0x0",
		"mixHash":       common.Hash{},
		"coinbase":      common.Address{},
	}
	if err := write(*out, "l1-genesis.json", genesis); err != nil {
		return err
	}
	return write(*out, "l1-config.json", config)
}

// L1Config describes anvil at `--hardfork prague`.
func l1Config() *params.ChainConfig {
	first, genesis := new(big.Int), uint64(0)
	return &params.ChainConfig{
		ChainID:        big.NewInt(l1ChainID),
		HomesteadBlock: first, EIP150Block: first, EIP155Block: first, EIP158Block: first,
		ByzantiumBlock: first, ConstantinopleBlock: first, PetersburgBlock: first, IstanbulBlock: first,
		MuirGlacierBlock: first, BerlinBlock: first, LondonBlock: first, ArrowGlacierBlock: first,
		GrayGlacierBlock: first, MergeNetsplitBlock: first, TerminalTotalDifficulty: first,
		ShanghaiTime: &genesis, CancunTime: &genesis, PragueTime: &genesis,
		BlobScheduleConfig: &params.BlobScheduleConfig{
			Cancun: params.DefaultCancunBlobConfig,
			Prague: params.DefaultPragueBlobConfig,
		},
	}
}
