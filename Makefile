# Lacuna.  `make` builds build/lacuna.
#
# Sources are found by wildcard: a new file needs no edit here.

ifeq ($(origin CC),default)
CC = gcc
endif
BUILD  ?= build
PREFIX ?= /usr/local
EXTRA  ?=

WARN     = -Wall -Wextra -Wno-missing-field-initializers
CFLAGS  ?= -O2 -g
ALL_FLAGS = -std=gnu11 $(WARN) $(CFLAGS) $(EXTRA) -MMD -MP
LUA_FLAGS = -I/usr/include/lua5.4
LIBS     = -llua5.4 -ledit -ljansson -lxxhash -lutf8proc -lz -ldl -lpthread -lm

CORE_SOURCES     = $(wildcard core/*/*.c core/ops/*/*.c)
LANGUAGE_SOURCES = $(wildcard bindings/*.c repl/*.c)
EMBEDDED         = $(sort $(wildcard bindings/lua/lacuna/*.lua repl/*.lua))
TEST_SOURCES     = $(wildcard tests/c/test_*.c)
HELPER_SOURCES   = $(filter-out $(TEST_SOURCES),$(wildcard tests/c/*.c))

CORE_OBJECTS     = $(CORE_SOURCES:%.c=$(BUILD)/%.o)
LANGUAGE_OBJECTS = $(LANGUAGE_SOURCES:%.c=$(BUILD)/%.o) $(BUILD)/embedded.o
HELPER_OBJECTS   = $(HELPER_SOURCES:%.c=$(BUILD)/%.o)
C_CHECKS         = $(TEST_SOURCES:tests/c/%.c=$(BUILD)/tests/%)

LIBRARY = $(BUILD)/liblacuna_core.a
LACUNA  = $(BUILD)/lacuna

.PHONY: build c-checks clean
.DELETE_ON_ERROR:
.SECONDARY:

build: $(LACUNA)

c-checks: $(C_CHECKS)

# A missing header is named with its package before the compiler says so in its own words.
$(BUILD)/dependencies: tools/check_dependencies.sh
	@mkdir -p $(BUILD)
	@CC="$(CC)" sh tools/check_dependencies.sh
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
$(BUILD)/embedded.S: tools/embed.sh $(EMBEDDED) $(BUILD)/embedded.list
	sh tools/embed.sh $(EMBEDDED) > $@

$(BUILD)/embedded.o: $(BUILD)/embedded.S
	$(CC) -c $< -o $@

# Lists of sources, rewritten only when they change: what must notice that a file came or went depends on them.
define source-list
$(BUILD)/$(1).list: FORCE
	@mkdir -p $(BUILD)
	@echo '$(2)' | cmp -s - $$@ || echo '$(2)' > $$@
endef
$(eval $(call source-list,core,$(CORE_OBJECTS)))
$(eval $(call source-list,language,$(LANGUAGE_OBJECTS)))
$(eval $(call source-list,embedded,$(EMBEDDED)))
FORCE:

clean:
	rm -rf build build-asan build-fuzz

-include $(CORE_OBJECTS:.o=.d) $(LANGUAGE_OBJECTS:.o=.d) $(HELPER_OBJECTS:.o=.d) $(TEST_SOURCES:%.c=$(BUILD)/%.d)
