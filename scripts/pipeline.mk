# The whole method as a graph of files, beside what it is compared with at the same training budget: plain fine-tuning, the
# paper's method, all masks. Each rule is one call of seqres with a recipe of stages/configs/pipeline-SCALE.toml.
#
#   make -f scripts/pipeline.mk SCALE=smoke OUT=runs/smoke             build everything, show the table
#   make -f scripts/pipeline.mk DATA=refcoco.h5 RATIO=0.01 OUT=runs/refcoco
#
# A second call does nothing. Another RATIO (or other flags of a stage: RES_FLAGS='--lr 0.001') runs only what depends on it,
# and a deleted file is made again; with make -j2, branches run side by side (OMP_NUM_THREADS cores each). More rounds (TAG=2
# TEACHER=final): docs/howto/experiments.md. How it works: pipeline_files.mk.

SCALE   ?= smoke
SEED    ?= 0
# Share of training referents whose mask may be seen
RATIO   ?= $(or $(if $(filter tiny,$(SCALE)),0.3),$(if $(filter standard,$(SCALE)),0.01),0.05)
# An existing dataset artifact instead of RefShapes, and the preset of train-rec
DATA    ?=
MODEL   ?= $(if $(filter smoke,$(SCALE)),objects-small,refshapes-small)
# Which model labels, what the files of its round carry (pseudo2-, final2-RATIO …), what of it is kept: all, encoder, none
TEACHER ?= first
TAG     ?=
KEEP    ?= $(if $(filter tiny,$(SCALE)),none,all)

# What each stage is called with, beside its files. The recipes' rates are those of the small model, and RefShapes lie at
# any angle, which other pictures do not.
R      := --config pipeline-$(SCALE)
rate   := $(if $(filter-out refshapes-small objects-small objects-all-small,$(MODEL)),--lr 0.001)
keep   := $(if $(filter-out none,$(KEEP)),--init-keep $(KEEP))
method := $(rate) $(if $(DATA),--rotate 0) --seed $(SEED)
prepare   = $(R) --seed $(SEED) $(PREPARE_FLAGS)
split     = --seed $(SEED)
rec       = $(R) --model $(MODEL) $(rate) --seed $(SEED) $(REC_FLAGS)
naive     = $(R):naive $(rate) --seed $(SEED) $(NAIVE_FLAGS)
paper-first = $(R):paper $(rate) --seed $(SEED) $(PAPER_FLAGS)
paper-pseudo = $(R):paper $(PSEUDO_FLAGS)
paper-points = $(R):paper $(RESAMPLE_FLAGS)
paper     = $(R):paper-all $(rate) --seed $(SEED) $(keep) $(PAPER_FLAGS)
first     = $(R):first $(method) $(RES_FLAGS)
all-masks = $(R):all-masks $(method) $(FULL_FLAGS)
pseudo    = $(R) $(PSEUDO_FLAGS)
refine    = $(REFINE_FLAGS)
resample  = $(R) $(RESAMPLE_FLAGS)
final     = $(R):final $(method) $(keep) $(FINAL_FLAGS)
evaluate  = $(R) $(EVALUATE_FLAGS)
ellipse   = $(R) --contour ellipse $(EVALUATE_FLAGS)
visualize = $(R) $(VISUALIZE_FLAGS)

# OUT, SEQRES, the rule `run`, and what is asked for by `make`, `make all` and `make table`
here := $(shell dirname -- '$(subst ','\'',$(strip $(MAKEFILE_LIST)))')
include $(subst $() ,\ ,$(here))/pipeline_files.mk

ifndef DATA
$(OUT)/dataset.h5: $(F)/prepare
	$(call run,prepare-data,prepare)
endif

# 1. Boxes: one model for everything below
$(OUT)/rec.h5: $(D) $(F)/rec
	$(call run,train-rec,rec)

# 2. Which masks may be seen; splits of one seed contain each other
$(OUT)/split-%.h5: $(D) $(F)/split
	$(call run,split-masks,split,--ratio $*)

# 3. Few masks: plain fine-tuning
$(OUT)/naive-%.h5: $(D) $(OUT)/split-%.h5 $(OUT)/rec.h5 $(F)/naive
	$(call run,train-res,naive,--split $(OUT)/split-$*.h5 --rec $(OUT)/rec.h5)

# 4. The paper's method: a first pass, contours for everything known by its box only, those that agree with it, a second pass
$(OUT)/paper-first-%.h5: $(D) $(OUT)/split-%.h5 $(OUT)/rec.h5 $(F)/paper-first
	$(call run,train-res,paper-first,--split $(OUT)/split-$*.h5 --rec $(OUT)/rec.h5)
$(OUT)/paper-pseudo-%.h5: $(D) $(OUT)/split-%.h5 $(OUT)/paper-first-%.h5 $(F)/paper-pseudo
	$(call run,pseudo-label,paper-pseudo,--split $(OUT)/split-$*.h5 --model $(OUT)/paper-first-$*.h5)
$(OUT)/paper-points-%.h5: $(D) $(OUT)/paper-pseudo-%.h5 $(F)/paper-points
	$(call run,resample-points,paper-points,--pseudo $(OUT)/paper-pseudo-$*.h5)
$(OUT)/paper-%.h5: $(D) $(OUT)/split-%.h5 $(OUT)/rec.h5 $(OUT)/paper-points-%.h5 $(F)/paper
	$(call run,train-res,paper,--split $(OUT)/split-$*.h5 --rec $(OUT)/rec.h5 --points $(OUT)/paper-points-$*.h5 \
	  $(if $(keep),--init $(OUT)/paper-first-$*.h5))

# 5. The full method: the same with crop refinement, its contours refined along edges of colour
$(OUT)/first-%.h5: $(D) $(OUT)/split-%.h5 $(OUT)/rec.h5 $(F)/first
	$(call run,train-res,first,--split $(OUT)/split-$*.h5 --rec $(OUT)/rec.h5)

$(OUT)/pseudo$(TAG)-%.h5: $(D) $(OUT)/split-%.h5 $(OUT)/$(TEACHER)-%.h5 $(F)/pseudo
	$(call run,pseudo-label,pseudo,--split $(OUT)/split-$*.h5 --model $(OUT)/$(TEACHER)-$*.h5)
$(OUT)/refined$(TAG)-%.h5: $(D) $(OUT)/pseudo$(TAG)-%.h5 $(F)/refine
	$(call run,refine-masks,refine,--pseudo $(OUT)/pseudo$(TAG)-$*.h5)
$(OUT)/points$(TAG)-%.h5: $(D) $(OUT)/refined$(TAG)-%.h5 $(F)/resample
	$(call run,resample-points,resample,--pseudo $(OUT)/refined$(TAG)-$*.h5)

$(OUT)/final$(TAG)-%.h5: $(D) $(OUT)/split-%.h5 $(OUT)/rec.h5 $(OUT)/points$(TAG)-%.h5 $(F)/final
	$(call run,train-res,final,--split $(OUT)/split-$*.h5 --rec $(OUT)/rec.h5 --points $(OUT)/points$(TAG)-$*.h5 \
	  $(if $(keep),--init $(OUT)/$(TEACHER)-$*.h5))

# 6. What it gives with all masks
$(OUT)/all-masks.h5: $(D) $(OUT)/split-1.0.h5 $(OUT)/rec.h5 $(F)/all-masks
	$(call run,train-res,all-masks,--split $(OUT)/split-1.0.h5 --rec $(OUT)/rec.h5)

# 7. Scores; boxes-only = ellipses in the boxes of the model of boxes, "box-" = the true box is given and only the contour is
# predicted
$(OUT)/eval/boxes-only.h5: $(D) $(OUT)/rec.h5 $(F)/ellipse
	$(call run,evaluate,ellipse,--model $(OUT)/rec.h5)
$(OUT)/eval/box-%.h5: $(D) $(OUT)/%.h5 $(F)/evaluate
	$(call run,evaluate,evaluate,--model $(OUT)/$*.h5 --box-prompt)
$(OUT)/eval/%.h5: $(D) $(OUT)/%.h5 $(F)/evaluate
	$(call run,evaluate,evaluate,--model $(OUT)/$*.h5)

# 8. Pictures
$(OUT)/attention$(TAG)-%.h5: $(foreach file,final$(TAG) naive refined$(TAG) points$(TAG) split,$(OUT)/$(file)-%.h5) $(D) $(F)/visualize
	$(call run,visualize-attention,visualize,--model $(OUT)/final$(TAG)-$*.h5 --compare-model $(OUT)/naive-$*.h5 \
	  --pseudo $(OUT)/refined$(TAG)-$*.h5 --points $(OUT)/points$(TAG)-$*.h5 --split $(OUT)/split-$*.h5)
