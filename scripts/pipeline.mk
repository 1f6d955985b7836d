# The whole method as a graph of files. Each rule is one call of seqres.
#
#   make -f scripts/pipeline.mk SCALE=smoke OUT=runs/smoke            build everything, show the table
#   make -f scripts/pipeline.mk DATA=refcoco.h5 RATIO=0.01 OUT=runs/refcoco
#   make -f scripts/pipeline.mk SCALE=smoke ROUNDS=2 OUT=runs/smoke   label once more, with what was learned from labels
#
# A second call does nothing. Another RATIO (or other flags of one stage) runs only what depends on it, and a
# deleted file is made again: what comes after it is only asked, and stays when its inputs turn out the same.
#
# make compares times, seqres compares content: a rule that make finds out of date asks seqres first, and an
# "up to date" only makes the file newer.

# OUT comes from the command line only, as the environment may use this name otherwise. What is made there is on the list
# OUT/.made-by-seqres; a folder that holds files and no list, and a file that is not on the list, are somebody's: they stay.

# $(call quoted,TEXT): TEXT as one word of the shell
quoted = '$(subst ','\'',$(1))'
made   := bash $(call quoted,$(shell dirname -- $(call quoted,$(strip $(MAKEFILE_LIST))))/made.sh)

SEQRES ?= seqres
OUT    := runs/pipeline
ifneq ($(origin OUT),command line)
override OUT := runs/pipeline
endif
SCALE  ?= smoke
# Share of training referents whose mask may be seen
RATIO_tiny     := 0.3
RATIO_smoke    := 0.05
RATIO_standard := 0.01
RATIO  ?= $(or $(RATIO_$(SCALE)),0.05)
SEED   ?= 0
# How often the box-only objects are labelled and learned from. Files of round 2 are pseudo2-, refined2-, points2-, final2-RATIO ...
ROUNDS ?= 1
# What a round takes over from the model that labelled for it: none (every round starts from the box model), all, encoder.
# There are no steps to learn outlines twice at either scale; what goes on must not unlearn the masks (--mask-images).
ROUND_KEEP_smoke := all
ROUND_KEEP_standard := all
ROUND_KEEP ?= $(or $(ROUND_KEEP_$(SCALE)),none)
# An existing dataset artifact instead of RefShapes
DATA   ?=
# Architecture preset of train-rec
MODEL  ?= refshapes-small

# ------------------------------------------------------------------ flags of each stage, by scale

REC_STEPS_tiny      := --epochs 1 --steps-per-epoch 3
RES_STEPS_tiny      := --epochs 1 --steps-per-epoch 3
FULL_STEPS_tiny     := --epochs 1 --steps-per-epoch 3
NAIVE_STEPS_tiny    := --epochs 1 --steps-per-epoch 3
# Minutes: the backbone stays as it comes, and one short epoch is scored at its end
SHORT               := --epochs 1 --warmup-epochs 0.1 --validation-sentences 100
REC_STEPS_smoke     := $(SHORT) --steps-per-epoch 270 --frozen all
RES_STEPS_smoke     := $(SHORT) --steps-per-epoch 560 --batch-images 8
FINAL_STEPS_smoke   := $(SHORT) --steps-per-epoch 200 --batch-images 8 --lr 0.001
FULL_STEPS_smoke    := $(SHORT) --steps-per-epoch 560 --batch-images 8
NAIVE_STEPS_smoke   := $(SHORT) --steps-per-epoch 80
REC_STEPS_standard  := --epochs 2 --steps-per-epoch 300
RES_STEPS_standard  := --epochs 2 --steps-per-epoch 450 --batch-images 8
FINAL_STEPS_standard := --epochs 1 --steps-per-epoch 450 --batch-images 8 --mask-images 4
# as many steps as both passes
FULL_STEPS_standard := --epochs 3 --steps-per-epoch 450 --batch-images 8
NAIVE_STEPS_standard := --epochs 2 --steps-per-epoch 200 --batch-images 8 --lr 0.001

# How outlined objects are varied. RefShapes lie at any angle, what is in DATA perhaps not. Pasted objects take more
# steps than the smoke scale has until they pay.
VARY            := --mirror 0.5 --colour 0.2 --zoom-jitter 0.2 $(if $(DATA),,--rotate 180)
VARY_standard   := --paste 0.5

PREPARE_FLAGS   ?= --source refshapes --scale $(SCALE)
# Rates of the small model; other presets keep the stages' defaults or are given REC_FLAGS, RES_FLAGS, ...
REC_RATE        := $(if $(filter refshapes-small,$(MODEL)),--lr 0.003)
RES_RATE        := $(if $(filter refshapes-small,$(MODEL)),--lr 0.002)
REC_FLAGS       ?= --model $(MODEL) $(REC_RATE) $(REC_STEPS_$(SCALE))
# The box, then the contour in a window around it: the second look is what makes contours precise here
METHOD_FLAGS    ?= --sequence box-contour --task-token learnable --cctf --pmca --zoom 112 --sentences-per-image 3 $(RES_RATE)
# Plain SeqTR, fine-tuned on the masks alone: what the method is compared with
NAIVE_FLAGS     ?= --sequence contour --task-token zero --no-cctf --no-pmca --no-point-content $(NAIVE_STEPS_$(SCALE))
# Boxes are found by the model of train-rec, so that every window can show an outline
VARIED          ?= --box-only-images 0 $(VARY) $(VARY_$(SCALE))
RES_FLAGS       ?= $(METHOD_FLAGS) $(RES_STEPS_$(SCALE)) $(VARIED)
FULL_FLAGS      ?= $(METHOD_FLAGS) $(FULL_STEPS_$(SCALE)) $(VARIED)
PSEUDO_FLAGS    ?= --box-prompt --sentences-per-referent 1
# Along edges of colour; or --sam FOLDER
REFINE_FLAGS    ?=
# Outlines are sampled a second time by the training; few points would cut corners twice
RESAMPLE_FLAGS  ?= --fit none --n-points 80
FINAL_FLAGS     ?= $(METHOD_FLAGS) $(or $(FINAL_STEPS_$(SCALE)),$(FULL_STEPS_$(SCALE))) $(VARIED)
# Training flags of the rounds after the first
ROUND_FLAGS     ?= $(FINAL_FLAGS)
SCORED          := --max-sentences 1000
SCORED_smoke    := --max-sentences 200 --splits val
EVALUATE_FLAGS  ?= $(or $(SCORED_$(SCALE)),$(SCORED))
VISUALIZE_FLAGS ?= --samples 8 --pseudo-samples 8 --show-hidden

# ------------------------------------------------------------------ machinery

rounds := $(filter-out 0,$(shell seq 1 1 $(ROUNDS) 2>/dev/null))
ifneq ($(lastword none $(rounds)),$(ROUNDS))
  $(error ROUNDS must be a whole number of at least 1, got '$(ROUNDS)')
endif
# $(call tag,N): what the file names of round N carry, nothing in round 1. $(call teacher,N): the model that labels for it
tag     = $(filter-out 1,$(1))
teacher = $(if $(call tag,$(1)),final$(call tag,$(word $(1),0 $(rounds))),first)
LAST   := $(call tag,$(ROUNDS))

# Before anything is done: can make work with these names, and is the folder ours? `clean` needs no graph, and no such name.
folder := $(OUT)
ifeq ($(MAKECMDGOALS),clean)
  override OUT := .
else
  problem := $(shell $(made) odd $(call quoted,$(OUT)))
  $(if $(problem),$(error OUT: $(problem) (or go there: make -C FOLDER -f …/pipeline.mk OUT=.)))
  problem := $(if $(DATA),$(shell $(made) odd $(call quoted,$(DATA))))
  $(if $(problem),$(error DATA: $(problem) (a link may have another: ln -s FILE data.h5)))
  problem := $(shell $(made) begin $(OUT) 2>&1)
  $(if $(problem),$(error $(problem)))
endif
# A path may have blanks; anything else is a command with its arguments
override SEQRES := $(if $(shell command -v $(call quoted,$(SEQRES))),$(call quoted,$(SEQRES)),$(SEQRES))

.DEFAULT_GOAL := report
.PHONY: all report table clean
# Two trainings at once would only share the cores.
.NOTPARALLEL:
# make shall delete none of these, neither as an intermediate nor on Ctrl-C: seqres leaves only whole files.
.PRECIOUS: $(OUT)/dataset.h5 $(OUT)/rec.h5 $(OUT)/full.h5 $(OUT)/eval/%.h5 $(foreach kind,\
  split naive first $(foreach n,$(rounds),$(addsuffix $(call tag,$(n)),pseudo refined points final)) attention$(LAST),$(OUT)/$(kind)-%.h5)

D := $(if $(DATA),$(DATA),$(OUT)/dataset.h5)
S := $(OUT)/split-$(RATIO).h5
S_ALL := $(OUT)/split-1.0.h5

# $(call run,stage and inputs,flags): with a file there, a dry run tells whether it is still right (0) or not (3);
# --force then replaces it if it is on the list. Anything else that is wrong is told by the run itself.
define run
@mkdir -p $(@D)
@if [ -e $@ ] && $(SEQRES) $(1) $(2) --out $@ --dry-run >/dev/null 2>&1; then echo "up to date: $@"; \
 else echo; echo "seqres $(strip $(1)) $(strip $(2)) --out $@"; $(SEQRES) $(1) $(2) --out $@ $$($(made) take $(OUT) $(@:$(OUT)/%=%)); fi && touch $@
endef

# OUT/.flags/STAGE holds the flags of a stage and is written anew only when they change, which runs it again.
# Done while make reads this file, so that `make -n` tells the truth.
ifneq ($(MAKECMDGOALS),clean)
flags = $(shell mkdir -p $(OUT)/.flags; cd $(OUT)/.flags; echo $(call quoted,$(2)) | cmp -s - $(1) || echo $(call quoted,$(2)) > $(1))
$(call flags,prepare,$(PREPARE_FLAGS) --seed $(SEED))
$(call flags,split,--seed $(SEED))
$(call flags,rec,$(REC_FLAGS) --seed $(SEED))
$(call flags,naive,$(NAIVE_FLAGS) --seed $(SEED))
$(call flags,first,$(RES_FLAGS) --seed $(SEED))
$(call flags,full,$(FULL_FLAGS) --seed $(SEED))
$(call flags,pseudo,$(PSEUDO_FLAGS))
$(call flags,refine,$(REFINE_FLAGS))
$(call flags,resample,$(RESAMPLE_FLAGS))
$(call flags,final,$(FINAL_FLAGS) $(ROUND_KEEP) --seed $(SEED))
$(call flags,round,$(ROUND_FLAGS) $(ROUND_KEEP) --seed $(SEED))
$(call flags,evaluate,$(EVALUATE_FLAGS))
$(call flags,visualize,$(VISUALIZE_FLAGS))
endif

# ------------------------------------------------------------------ the graph

ifndef DATA
$(OUT)/dataset.h5: $(OUT)/.flags/prepare
	$(call run,prepare-data,$(PREPARE_FLAGS) --seed $(SEED))
endif

# 1. Boxes: one model for everything below
$(OUT)/rec.h5: $(D) $(OUT)/.flags/rec
	$(call run,train-rec --dataset $(D),$(REC_FLAGS) --seed $(SEED))

# 2. Which masks may be seen; splits of one seed contain each other
$(OUT)/split-%.h5: $(D) $(OUT)/.flags/split
	$(call run,split-masks --dataset $(D),--ratio $* --seed $(SEED))

# 3. Few masks: plain fine-tuning, and the method's first pass
$(OUT)/naive-%.h5: $(D) $(OUT)/split-%.h5 $(OUT)/rec.h5 $(OUT)/.flags/naive
	$(call run,train-res --dataset $(D) --split $(OUT)/split-$*.h5 --rec $(OUT)/rec.h5,$(NAIVE_FLAGS) --seed $(SEED))

$(OUT)/first-%.h5: $(D) $(OUT)/split-%.h5 $(OUT)/rec.h5 $(OUT)/.flags/first
	$(call run,train-res --dataset $(D) --split $(OUT)/split-$*.h5 --rec $(OUT)/rec.h5,$(RES_FLAGS) --seed $(SEED))

# 4. Contours for everything known by its box only, redrawn along edges; keep and resample what agrees with the box
# 5. Second pass, again from the box model or going on from the first: masks and pseudo points
# Both once a round; $(1) = number of the round
init = $(if $(filter-out none,$(ROUND_KEEP)), --init $(OUT)/$(call teacher,$(1))-$$*.h5 --init-keep $(ROUND_KEEP))
define round
$(OUT)/pseudo$(call tag,$(1))-%.h5: $(D) $(OUT)/split-%.h5 $(OUT)/$(call teacher,$(1))-%.h5 $(OUT)/.flags/pseudo
	$$(call run,pseudo-label --dataset $(D) --split $(OUT)/split-$$*.h5 --model $(OUT)/$(call teacher,$(1))-$$*.h5,$$(PSEUDO_FLAGS))

$(OUT)/refined$(call tag,$(1))-%.h5: $(D) $(OUT)/pseudo$(call tag,$(1))-%.h5 $(OUT)/.flags/refine
	$$(call run,refine-masks --dataset $(D) --pseudo $(OUT)/pseudo$(call tag,$(1))-$$*.h5,$$(REFINE_FLAGS))

$(OUT)/points$(call tag,$(1))-%.h5: $(D) $(OUT)/refined$(call tag,$(1))-%.h5 $(OUT)/.flags/resample
	$$(call run,resample-points --dataset $(D) --pseudo $(OUT)/refined$(call tag,$(1))-$$*.h5,$$(RESAMPLE_FLAGS))

$(OUT)/final$(call tag,$(1))-%.h5: $(D) $(OUT)/split-%.h5 $(OUT)/rec.h5 $(OUT)/points$(call tag,$(1))-%.h5 $(OUT)/.flags/$(if $(call tag,$(1)),round,final)
	$$(call run,train-res --dataset $(D) --split $(OUT)/split-$$*.h5 --rec $(OUT)/rec.h5 --points $(OUT)/points$(call tag,$(1))-$$*.h5$(call init,$(1)),$$($(if $(call tag,$(1)),ROUND,FINAL)_FLAGS) --seed $$(SEED))
endef
$(foreach n,$(rounds),$(eval $(call round,$(n))))

# What all masks would give
$(OUT)/full.h5: $(D) $(S_ALL) $(OUT)/rec.h5 $(OUT)/.flags/full
	$(call run,train-res --dataset $(D) --split $(S_ALL) --rec $(OUT)/rec.h5,$(FULL_FLAGS) --seed $(SEED))

# 6. Scores; "box-" = the true box is given and only the contour is drawn
$(OUT)/eval/box-%.h5: $(D) $(OUT)/%.h5 $(OUT)/.flags/evaluate
	$(call run,evaluate --dataset $(D) --model $(OUT)/$*.h5,--box-prompt $(EVALUATE_FLAGS))

$(OUT)/eval/%.h5: $(D) $(OUT)/%.h5 $(OUT)/.flags/evaluate
	$(call run,evaluate --dataset $(D) --model $(OUT)/$*.h5,$(EVALUATE_FLAGS))

EVALUATIONS := $(addprefix $(OUT)/eval/,rec.h5 naive-$(RATIO).h5 first-$(RATIO).h5 \
  $(foreach n,$(rounds),final$(call tag,$(n))-$(RATIO).h5) full.h5)
GIVEN_BOX   := $(OUT)/eval/box-full.h5

# 7. Pictures of the last round
$(OUT)/attention$(LAST)-%.h5: $(D) $(OUT)/final$(LAST)-%.h5 $(OUT)/naive-%.h5 $(OUT)/refined$(LAST)-%.h5 $(OUT)/points$(LAST)-%.h5 $(OUT)/split-%.h5 $(OUT)/.flags/visualize
	$(call run,visualize-attention --dataset $(D) --model $(OUT)/final$(LAST)-$*.h5 --compare-model $(OUT)/naive-$*.h5 \
	  --pseudo $(OUT)/refined$(LAST)-$*.h5 --points $(OUT)/points$(LAST)-$*.h5 --split $(OUT)/split-$*.h5,$(VISUALIZE_FLAGS))

# Every file by its name: one that make knows from patterns only would not be made again when it is deleted
all: $(foreach kind,split first attention$(LAST),$(OUT)/$(kind)-$(RATIO).h5)
all: $(foreach n,$(rounds),$(foreach kind,pseudo refined points final,$(OUT)/$(kind)$(call tag,$(n))-$(RATIO).h5))
all: $(EVALUATIONS) $(GIVEN_BOX)

table: $(EVALUATIONS) $(GIVEN_BOX)
	@echo; $(SEQRES) evaluate --compare $(EVALUATIONS) $(GIVEN_BOX)

report: all table
	@echo; echo "pictures: $$(cd $(OUT) && pwd)/attention$(LAST)-$(RATIO)_figures/index.html"

clean:
	$(made) clean $(call quoted,$(folder))
