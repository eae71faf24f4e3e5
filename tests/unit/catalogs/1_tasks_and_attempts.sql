CREATE TABLE livelog_attempts (
	attempt VARCHAR(200) NOT NULL, 
	task_id VARCHAR(200) NOT NULL, 
	name TEXT NOT NULL, 
	worker TEXT NOT NULL, 
	pid BIGINT NOT NULL, 
	queue TEXT NOT NULL, 
	root_id VARCHAR(200) NOT NULL, 
	parent_id VARCHAR(200) NOT NULL, 
	group_id VARCHAR(200) NOT NULL, 
	retries BIGINT NOT NULL, 
	redelivered BOOLEAN NOT NULL, 
	args TEXT NOT NULL, 
	lease TEXT NOT NULL, 
	started VARCHAR(32) NOT NULL, 
	ended VARCHAR(32) NOT NULL, 
	state VARCHAR(32) NOT NULL, 
	exit_code BIGINT, 
	reason TEXT NOT NULL, 
	lines BIGINT NOT NULL, 
	bytes BIGINT NOT NULL, 
	skipped BIGINT NOT NULL, 
	archive TEXT NOT NULL, 
	verbatim TEXT NOT NULL, 
	version SMALLINT NOT NULL, 
	PRIMARY KEY (attempt)
);
INSERT INTO "livelog_attempts" VALUES('00aa11bb00aa11bb','a-task','proj.add','celery@host',7,'','a-task','','',0,false,'(1, 2)','','2026-01-02T03:04:05.000006+00:00','2026-01-02T03:04:06.000006+00:00','SUCCESS',0,'',3,20,0,'file:///archive/tasks/a-task/00aa11bb00aa11bb','',3);
CREATE TABLE livelog_tasks (
	task_id VARCHAR(200) NOT NULL, 
	name TEXT NOT NULL, 
	root_id VARCHAR(200) NOT NULL, 
	parent_id VARCHAR(200) NOT NULL, 
	group_id VARCHAR(200) NOT NULL, 
	first_started VARCHAR(32) NOT NULL, 
	attempt VARCHAR(200) NOT NULL, 
	started VARCHAR(32) NOT NULL, 
	ended VARCHAR(32) NOT NULL, 
	state VARCHAR(32) NOT NULL, 
	version VARCHAR(240) NOT NULL, 
	PRIMARY KEY (task_id)
);
INSERT INTO "livelog_tasks" VALUES('a-task','proj.add','a-task','','','2026-01-02T03:04:05.000006+00:00','00aa11bb00aa11bb','2026-01-02T03:04:05.000006+00:00','2026-01-02T03:04:06.000006+00:00','SUCCESS','2026-01-02T03:04:05.000006+00:00 00aa11bb00aa11bb 3');
CREATE INDEX livelog_attempts_task ON livelog_attempts (task_id, started);
CREATE INDEX livelog_attempts_running ON livelog_attempts (ended, started);
CREATE INDEX livelog_attempts_newest ON livelog_attempts (started, attempt);
CREATE INDEX livelog_tasks_newest ON livelog_tasks (started);
CREATE INDEX livelog_tasks_root ON livelog_tasks (root_id);
CREATE INDEX livelog_tasks_group ON livelog_tasks (group_id);
