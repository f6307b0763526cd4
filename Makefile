# Lacuna.  `make` builds build/lacuna.  Sources are found by wildcard: a new file needs no edit here.
#
#   make test          all tests; the last line is "N passed, N failed".  ONLY=word runs those with the word in their name
#   make check         test with every sampled sweep in full, lint, asan, layers
#   make lint          clang-format, cppcheck, luacheck, and the recipe linter
#   make asan          all tests under AddressSanitizer, UBSan and the leak checker, in build-asan
#   make layers        include directions; no Lua, printing or exit in core
#   make fuzz SECONDS=600      every parser, in build-fuzz; make test replays the corpus
#   make peers         live comparison with PyTorch and transformers (PEER_PYTHON=/path/to/python reuses an environment)
#   make bench, make bench-peers       timings; the second beside PyTorch's
#   make quickstart    installs what is missing, builds, trains and prunes a small GPT-2; TEXT=file.txt for your own text
#   make install PREFIX=/usr/local, make clean

ifeq ($(origin CC),default)
CC = gcc
endif
ifeq ($(MAKELEVEL)$(findstring j,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc)
endif
BUILD  ?= build
PREFIX ?= /usr/local
EXTRA  ?=
SECONDS ?= 600
ONLY   ?=

WARN     = -Wall -Wextra -Wno-missing-field-initializers
CFLAGS  ?= -O2 -g
ALL_FLAGS = -std=gnu11 $(WARN) $(CFLAGS) $(EXTRA) -MMD -MP
LUA_FLAGS = -I/usr/include/lua5.4
LIBS     = -llua5.4 -ledit -ljansson -lxxhash -lutf8proc -lpcre2-8 -lz -lzip -ldl -lpthread -lm

CORE_SOURCES     = $(wildcard core/*/*.c core/ops/*/*.c)
LANGUAGE_SOURCES = $(wildcard bindings/*.c repl/*.c)
EMBEDDED         = $(sort $(wildcard bindings/lua/lacuna/*.lua repl/*.lua))
TEST_SOURCES     = $(wildcard tests/c/test_*.c)
HELPER_SOURCES   = $(filter-out $(TEST_SOURCES),$(wildcard tests/c/*.c))
FUZZ_SOURCES     = $(wildcard tests/fuzz/fuzz_*.c)
BENCH_SOURCES    = $(wildcard tests/bench/*.c)

CORE_OBJECTS     = $(CORE_SOURCES:%.c=$(BUILD)/%.o)
LANGUAGE_OBJECTS = $(LANGUAGE_SOURCES:%.c=$(BUILD)/%.o) $(BUILD)/embedded.o
HELPER_OBJECTS   = $(HELPER_SOURCES:%.c=$(BUILD)/%.o)
C_CHECKS         = $(TEST_SOURCES:tests/c/%.c=$(BUILD)/tests/%)
REPLAYS          = $(FUZZ_SOURCES:tests/fuzz/%.c=$(BUILD)/replay/%)
BENCHES          = $(BENCH_SOURCES:tests/bench/%.c=$(BUILD)/bench/%)

LIBRARY = $(BUILD)/liblacuna_core.a
LACUNA  = $(BUILD)/lacuna

.PHONY: build c-checks test test-here check lint layers asan fuzz peers bench bench-peers quickstart install clean
.DELETE_ON_ERROR:
.SECONDARY:

build: $(LACUNA)

c-checks: $(C_CHECKS)

# A missing header is named with its package before the compiler says so in its own words.
$(BUILD)/dependencies: .ci/packages.sh
	@mkdir -p $(BUILD)
	@CC="$(CC)" sh .ci/packages.sh check
	@touch $@

$(BUILD)/core/%.o: core/%.c | $(BUILD)/dependencies
	@mkdir -p $(@D)
	$(CC) $(ALL_FLAGS) -Icore -c $< -o $@

$(BUILD)/%.o: %.c | $(BUILD)/dependencies
	@mkdir -p $(@D)
	$(CC) $(ALL_FLAGS) -Icore -Ibindings $(LUA_FLAGS) -c $< -o $@

# The archive is made anew, so that an object whose source is gone does not stay inside.
$(LIBRARY): $(CORE_OBJECTS) $(BUILD)/core.list
	@rm -f $@
	ar rcs $@ $(CORE_OBJECTS)

$(LACUNA): $(LANGUAGE_OBJECTS) $(LIBRARY) $(BUILD)/language.list
	$(CC) $(CFLAGS) $(EXTRA) -Wl,--as-needed $(LANGUAGE_OBJECTS) $(LIBRARY) $(LIBS) -o $@

$(BUILD)/tests/%: $(BUILD)/tests/c/%.o $(HELPER_OBJECTS) $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(EXTRA) -Wl,--as-needed $^ $(LIBS) -o $@

# The Lua half of the language lives inside the binary.
$(BUILD)/embedded.S: repl/embed.sh $(EMBEDDED) $(BUILD)/embedded.list
	sh repl/embed.sh $(EMBEDDED) > $@

$(BUILD)/embedded.o: $(BUILD)/embedded.S
	$(CC) -c $< -o $@

# Lists of sources, rewritten only when they change: what must notice that a file came or went depends on them.
define source-list
$(BUILD)/$(1).list: FORCE
	@mkdir -p $(BUILD)
	@echo '$(2)' | cmp -s - $$@ || echo '$(2)' > $$@
endef
# What system.o says of the build, rewritten only when it changes: the flags and, in a checkout, the revision.
REVISION := $(if $(wildcard .git),$(shell git describe --always --dirty --exclude='*' 2>/dev/null))
$(BUILD)/bindings/system.o: $(BUILD)/build.list
$(BUILD)/bindings/system.o: LUA_FLAGS += -DLC_BUILD_FLAGS='"$(strip $(CFLAGS) $(EXTRA))"' -DLC_BUILD_REVISION='"$(REVISION)"'
$(eval $(call source-list,build,$(CFLAGS) $(EXTRA) $(REVISION)))
$(eval $(call source-list,core,$(CORE_OBJECTS)))
$(eval $(call source-list,language,$(LANGUAGE_OBJECTS)))
$(eval $(call source-list,embedded,$(EMBEDDED)))
FORCE:

# -- tests ---------------------------------------------------------------------------------------------------------------

# Plain programs that give each file of a fuzzer's corpus to the fuzzer's function.
$(BUILD)/replay/%: $(BUILD)/tests/fuzz/%.o $(BUILD)/tests/fuzz/replay.o $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(EXTRA) -Wl,--as-needed $^ $(LIBS) -o $@

test:
	@sh .ci/packages.sh install build test
	@$(MAKE) --no-print-directory test-here

# The tests of the tree in $(BUILD), with what is installed.
test-here: $(LACUNA) $(C_CHECKS) $(REPLAYS)
	@LACUNA=$(LACUNA) $(LACUNA) tests/run.lua --only='$(ONLY)' $(C_CHECKS) $(REPLAYS) $(sort $(wildcard tests/spec/*_spec.lua))

check:
	$(MAKE) layers
	$(MAKE) lint
	LACUNA_TEST_FULL=1 $(MAKE) test
	$(MAKE) asan

layers: $(LIBRARY)
	@sh tests/layers.sh $(LIBRARY)

C_FILES = $(wildcard core/*/*.[ch] core/ops/*/*.[ch] bindings/*.[ch] repl/*.[ch] tests/*/*.[ch])
LUA_PLACES = $(wildcard bindings/lua repl tests recipes)
lint: $(LACUNA)
	@sh .ci/packages.sh install lint
	clang-format --dry-run -Werror $(C_FILES)
	cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,performance --library=tests/cppcheck.xml \
	    --suppressions-list=tests/cppcheck.txt -Icore -Ibindings core bindings repl
	luacheck --quiet $(LUA_PLACES)
	$(LACUNA) tests/lint_recipes.lua $(wildcard recipes/*.lua recipes/*/*.lua)

SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
asan:
	@sh .ci/packages.sh install build test
	ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
	    $(MAKE) --no-print-directory test-here BUILD=build-asan CFLAGS="-O1 -g" EXTRA="$(SANITIZE)"

# -- fuzzing: what a fuzzer finds goes to build-fuzz/corpus; what is worth keeping is copied to tests/fuzz/corpus ---------

FUZZERS = $(FUZZ_SOURCES:tests/fuzz/%.c=$(BUILD)/%)
$(BUILD)/fuzz_%: tests/fuzz/fuzz_%.c $(LIBRARY)
	$(CC) $(ALL_FLAGS) -fsanitize=fuzzer -Icore $< $(LIBRARY) $(LIBS) -o $@

.PHONY: fuzzers
fuzzers: $(FUZZERS)

fuzz:
	@sh .ci/packages.sh install build fuzz
	@$(MAKE) --no-print-directory fuzzers BUILD=build-fuzz CC=clang CFLAGS="-O1 -g" \
	    EXTRA="-fsanitize=fuzzer-no-link,address,undefined"
	@for name in $(FUZZ_SOURCES:tests/fuzz/fuzz_%.c=%); do \
	    mkdir -p build-fuzz/corpus/$$name tests/fuzz/corpus/$$name; \
	    echo "fuzz_$$name for $(SECONDS) s"; \
	    build-fuzz/fuzz_$$name -max_total_time=$(SECONDS) -print_final_stats=1 -rss_limit_mb=2048 \
	        -artifact_prefix=build-fuzz/ build-fuzz/corpus/$$name tests/fuzz/corpus/$$name || exit 1; \
	done

# -- beside other software -----------------------------------------------------------------------------------------------

ifdef PEER_PYTHON
PEER = $(PEER_PYTHON)
else
PEER = build/peer/bin/python
peers bench-peers: build/peer/ready
endif

build/peer/ready:
	@sh .ci/packages.sh install peers
	python3 -m venv build/peer
	build/peer/bin/pip install --quiet torch transformers accelerate safetensors tokenizers gguf
	@touch $@

peers: $(LACUNA)
	@for script in $(sort $(wildcard tests/peers/*.py)); do \
	    echo "== $$script"; LACUNA=$(LACUNA) $(PEER) $$script || exit 1; \
	done

# OPENBLAS_CORETYPE, which some environments preset, is unset for every side.
bench: $(LACUNA) $(BENCHES)
	@for program in $(BENCHES); do echo "== $$program"; env -u OPENBLAS_CORETYPE $$program || exit 1; done
	@for script in model text interrupt; do \
	    echo "== $$script"; env -u OPENBLAS_CORETYPE $(LACUNA) tests/bench/$$script.lua || exit 1; \
	done
	@echo "== sparsegpt with the published script's settings"
	@env -u OPENBLAS_CORETYPE $(LACUNA) tests/bench/sparsegpt.lua --epsilon 1e-8 --block 4 --mask-block 2

bench-peers: $(LACUNA)
	LACUNA=$(LACUNA) $(PEER) tests/bench/compare.py
	LACUNA=$(LACUNA) $(PEER) tests/bench/sparsegpt.py

$(BUILD)/bench/%: $(BUILD)/tests/bench/%.o $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(EXTRA) -Wl,--as-needed $^ $(LIBS) -o $@

# -- the newcomer's way in -----------------------------------------------------------------------------------------------

# TEXT=file.txt is read in place of the Bible, which is then not needed.
quickstart:
	@sh .ci/packages.sh install build plot $(if $(TEXT),,bible)
	@$(MAKE) --no-print-directory build
	@$(if $(TEXT),:,sh recipes/bible_text.sh data/bible.txt)
	$(LACUNA) recipes/quickstart.lua $(if $(TEXT),--text '$(TEXT)')

install: $(LACUNA)
	install -D -m 755 $(LACUNA) $(DESTDIR)$(PREFIX)/bin/lacuna

clean:
	rm -rf build build-asan build-fuzz

-include $(CORE_OBJECTS:.o=.d) $(LANGUAGE_OBJECTS:.o=.d) $(HELPER_OBJECTS:.o=.d) $(TEST_SOURCES:%.c=$(BUILD)/%.d) \
    $(patsubst %.c,$(BUILD)/%.d,$(wildcard tests/fuzz/*.c tests/bench/*.c))
