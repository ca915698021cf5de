"""The methods that sample completions: TRL's GRPOTrainer made resumable, packed batches, and the engines for rollouts.

What distinguishes one method from another is its `objective.Objective`: GRPO's is TRL's, the others have modules
of their own.

The contract with the libraries.  TRL and transformers have no public hooks for some of what a resumable and packed run
needs, so the classes here and in `stages.train` override or use the following names.  `test_trl_contract.py` compares
them with the installed versions, so that an upgrade which changes one of them fails a test.

Overridden in GRPOTrainer:
    `_get_train_sampler`: an order of the prompts that depends on the seed and the epoch only.
    `_generate`, `_calculate_rewards`: timings, autocast, a stop at rewards that are not finite, and `latest`.
    `_generate_single_turn`: completions end at every stop token, not only at the tokenizer's end token; a signal ends
        the generation.
    `_tokenize_prompts`: renders a prompt once for all its completions; also called for the check of packed batches.
    `_load_from_checkpoint`: loads the trained adapter where the checkpoint also has one for the reference.
    `_prepare_inputs`: keeps the completions of a prompt together (packed batches).
    `_generate_and_score_completions`, `_compute_loss`: the advantages and the loss of the method, see `objective`;
        also the share of groups with equal rewards, free of rounding.
    `_get_per_token_logps_and_entropies`, `_compute_loss`: the packed or trimmed forward pass, of the rows that have a
        gradient.
Overridden in transformers' Trainer, by `ResumableMixin` and `ResumableSFTTrainer`:
    `training_step`, `log`, `_save_checkpoint`.
    `_clip_grad_norm`: the gradients of all ranks are averaged before.
    `save_model`, `_load_from_checkpoint`, `_save_optimizer_and_scheduler`, `_load_optimizer_and_scheduler`: weights and
        optimizer state that are divided between the ranks.  Also calls `_save`, with weights that were gathered.
Overridden in RepeatSampler:
    `__iter__`: the prompts of a step are the same for any number of ranks.
Overridden in VLLMGeneration:
    `_init_vllm`, `sync_weights`: our engine, and weights with the adapters added on the way.
    `generate`: a signal ends the generation.
Attributes of GRPOTrainer that are read or set:
    `_step`, `_buffered_inputs`: the position within a generation and its batches, which a checkpoint holds.
    `use_vllm`, `vllm_generation`, `vllm_importance_sampling_correction`, `_last_loaded_step`: set to use our engine.
    `mask_truncated_completions`: set to False, because completions may end at other stop tokens.
    `num_iterations`, `num_generations`, `temperature`, `epsilon_low`, `epsilon_high`, `router_aux_loss_coef`,
    `beta`, `ref_model`, `reward_weights`, `reward_func_names`,
    `top_entropy_quantile`, `_entropy_bonus_enabled`, `aux_loss_enabled`: read.
Attributes of SFTTrainer and VLLMGeneration:
    `_metrics` of the former, and of GRPOTrainer; `llm`, `enable_sleep_mode`, `_llm_weights_sleeping` of the latter.
Set where there are several ranks:
    `prepare_model` of accelerate's Accelerator, and `_setup_devices` of transformers' TrainingArguments.
"""
