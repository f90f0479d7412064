// Command genesis writes the start of a devnet's L1 and of its OP chains, offline.
//
//	genesis l1 -out DIR -time SECONDS -chain 901=0xSIGNER -chain 902=0xSIGNER -fund 0x..,0x..
//	    DIR/l1-genesis.json   for `anvil --init`: a portal and a system config per chain, funded accounts
//	    DIR/l1-config.json    for `op-node --rollup.l1-chain-config`
//	genesis l2 -out DIR -chain 901 -block-time 2 -batcher 0x.. -fund 0x..,0x.. -l1-hash 0x.. -l1-time SECONDS
//	    DIR/genesis.json      for `op-geth init`
//	    DIR/rollup.json       for `op-node --rollup.config`
//
// There are two steps because only anvil knows the hash of the L1 block that it makes of its genesis.
//
// The predeploys on L2 are the real ones: the dump that the optimism module carries for its own tests (Granite
// contracts). Forks up to Holocene are active at genesis; Isthmus and Jovian follow, so that op-node's own upgrade
// transactions install the newer L1Block and GasPriceOracle. There are no L1 contracts, so no withdrawals and no proofs:
// see contracts.go for the two stand-ins.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/params"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("genesis: ")
	commands := map[string]func([]string) error{"l1": writeL1, "l2": writeL2}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		log.Fatal("usage: genesis l1|l2 -help")
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		log.Fatal(err)
	}
}

// Addresses are a comma-separated list.
type addresses []common.Address

func (list *addresses) String() string { return fmt.Sprint([]common.Address(*list)) }

func (list *addresses) Set(text string) error {
	for _, word := range strings.Split(text, ",") {
		if !common.IsHexAddress(word) {
			return fmt.Errorf("%q is not 0x and 40 hex digits", word)
		}
		*list = append(*list, common.HexToAddress(word))
	}
	return nil
}

// Only returns the list's one address.
func (list addresses) only(name string) (common.Address, error) {
	if len(list) != 1 {
		return common.Address{}, fmt.Errorf("-%s wants one address, not %d", name, len(list))
	}
	return list[0], nil
}

// Signers are an L2 chain's unsafe block signer, by chain id: `901=0x..`, once for each chain.
type signers map[uint64]common.Address

func (chains signers) String() string { return fmt.Sprint(map[uint64]common.Address(chains)) }

func (chains signers) Set(text string) error {
	id, signer, _ := strings.Cut(text, "=")
	number, err := strconv.ParseUint(id, 10, 64)
	if err != nil || number == 0 || !common.IsHexAddress(signer) {
		return fmt.Errorf("%q is not a chain id, = and an address", text)
	}
	if _, isThere := chains[number]; isThere {
		return fmt.Errorf("chain %d is there twice", number)
	}
	chains[number] = common.HexToAddress(signer)
	return nil
}

// Fund gives each account a million ETH.
func fund(alloc types.GenesisAlloc, accounts addresses) {
	rich := new(big.Int).Mul(big.NewInt(1_000_000), big.NewInt(params.Ether))
	for _, account := range accounts {
		alloc[account] = types.Account{Balance: rich}
	}
}

func parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q means nothing here", flags.Arg(0))
	}
	return nil
}

func write(directory, name string, value any) error {
	text, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(directory, name), append(text, '\n'), 0o644)
}
